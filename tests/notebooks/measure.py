"""``python -m tests.notebooks.measure``: the course in figures, a line a notebook."""

import difflib
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from labkit.bench.content import folders
from tests.notebooks.__main__ import LESSONS, MACHINE

WORDS_A_MINUTE = 200
# An exercise takes five minutes, or half a minute for each line that has to be written.
MINUTES_AN_EXERCISE, MINUTES_A_LINE = 5, 0.5
# Where a notebook does not say what it took, it was not executed since that is kept.
USUAL_SECONDS = 45
STEP = re.compile(
    r"^  \w+_\w+ +(done|running|waiting|to come|not reached|failed|cancelled|paused)\b"
)


@dataclass
class Measured:
    """What a notebook is made of."""

    name: str
    cells: int
    median: float
    longest: int
    words: int
    code: int
    exercises: int
    writing: float
    pictures: int
    lines: int
    steps: int
    stated: int
    seconds: float

    @property
    def words_a_line(self) -> float:
        return self.words / self.code

    @property
    def share(self) -> float:
        """Of all lines that its cells show, those of step tables."""
        return self.steps / max(1, self.lines)

    @property
    def estimated(self) -> float:
        """Minutes to read, to do its exercises, and to wait for the machine."""
        return self.words / WORDS_A_MINUTE + self.writing + self.seconds / 60

    def __str__(self) -> str:
        return (
            f"{self.name:<24}{self.cells:>6}{self.median:>8g}{self.longest:>9}{self.words:>7}"
            f"{self.words_a_line:>12.1f}{self.exercises:>11}{self.pictures:>10}{self.lines:>7}"
            f"{self.share:>8.0%}{self.stated:>8}{self.estimated:>11.0f}"
        )


HEADER = (
    f"{'notebook':<24}{'cells':>6}{'median':>8}{'longest':>9}{'words':>7}{'words/line':>12}"
    f"{'exercises':>11}{'pictures':>10}{'lines':>7}{'steps':>8}{'stated':>8}{'estimated':>11}"
)


def measure(path: Path) -> Measured:
    notebook = nbformat.read(path, as_version=4)
    # A cell for the participant to write is as long as its exercise.
    code = [source for source in sources(notebook, "code") if not source.startswith("%%mine ")]
    lengths = [len(source.splitlines()) for source in code]
    shown = [line for output in outputs(notebook) for line in text_of(output).splitlines()]
    tables = [output for output in outputs(notebook) if STEP.search(text_of(output).split("\n")[1])]
    minutes = re.search(r"\*\*Minutes:\*\* *(\d+)", notebook.cells[0].source)
    return Measured(
        name=path.stem,
        cells=len(code),
        median=statistics.median(lengths),
        longest=max(lengths),
        words=len(prose(notebook).split()),
        code=sum(1 for source in code for line in source.splitlines() if line),
        exercises=len(folders(path.name[:2])),
        writing=sum(map(minutes_to_write, folders(path.name[:2]))),
        pictures=pictures(notebook),
        lines=len(shown),
        steps=sum(len(text_of(output).splitlines()) for output in tables),
        stated=int(minutes[1]) if minutes else 0,
        seconds=notebook.metadata.get(MACHINE, {}).get("seconds", USUAL_SECONDS),
    )


def minutes_to_write(folder: Path) -> float:
    """For the lines of the solution that the stub does not have."""
    texts = [
        (folder / f"{name}.py").read_text("utf-8").split("\n") for name in ("stub", "solution")
    ]
    written = [line for line in difflib.ndiff(*texts) if line.startswith("+ ") and line[2:].strip()]
    return max(MINUTES_AN_EXERCISE, MINUTES_A_LINE * len(written))


def prose(notebook: NotebookNode) -> str:
    """What is read: the text, without the code in it."""
    return re.sub(r"```.*?```", "", "\n".join(sources(notebook, "markdown")), flags=re.S)


def sources(notebook: NotebookNode, kind: str) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def pictures(notebook: NotebookNode) -> int:
    """Those that cells draw, and those that the text shows."""
    drawn = [it for it in outputs(notebook) if "image/png" in it.get("data", {})]
    return len(drawn) + len(re.findall(r"!\[[^]]*\]\(", prose(notebook)))


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [it for cell in notebook.cells for it in cell.get("outputs", [])]


def text_of(output: NotebookNode) -> str:
    """An output as text; a second line, though it may be empty, is always there."""
    return (output.get("text") or output.get("data", {}).get("text/plain", "")) + "\n"


def table(measured: list[Measured]) -> str:
    return "\n".join([HEADER, *map(str, measured)])


if __name__ == "__main__":
    print(table([measure(path) for path in LESSONS]))
