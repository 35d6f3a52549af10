"""``python -m tests.bars``: how large the house is, and whether what was promised of it holds."""

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labkit.core.settings import REPOSITORY

LABKIT = REPOSITORY / "labkit"
# The lines that each room was drawn with, and those that it may have now: whoever takes some away
# lowers the second. A room is a folder; single files are the top. The bench was not drawn.
ROOMS = {
    "ask": (805, 2100),
    "bench": (0, 2350),
    "core": (700, 1600),
    "pipeline": (1414, 3150),
    "services": (989, 1500),
    "top": (1904, 3350),
    "views": (914, 2250),
}
ALOUD = ("workflow", "policies", "activities")
THREADS = {"threading", "_thread", "multiprocessing", "queue"}
LOCKS = {"Lock", "RLock", "Condition", "Semaphore", "ThreadPoolExecutor"}
TIMED = "import time; from labkit import Lab; print(time.process_time())"
LONGEST = 350
# ``os._exit`` looks private, and is documented.
PUBLIC = {"_exit"}

# A figure, and what it is made of where that can be named.
Figure = tuple[float, list[str]]


@dataclass
class Bar:
    """A figure that may be at most so much. One that is ``kept`` fails the check when it is not."""

    name: str
    measure: Callable[[], Figure]
    most: float
    kept: bool


def files() -> list[Path]:
    """The code and the styles."""
    return sorted(path for path in LABKIT.rglob("*") if path.suffix in (".py", ".css"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def name(path: Path) -> str:
    return path.relative_to(LABKIT).as_posix()


def rooms() -> Counter[str]:
    """The lines of each room."""
    found: Counter[str] = Counter()
    for path in files():
        found[name(path).split("/")[0] if "/" in name(path) else "top"] += lines(path)
    return found


def lines_of(room: str) -> Figure:
    return rooms()[room], []


def longest_file() -> Figure:
    counted = {name(path): lines(path) for path in files()}
    above = sorted((n for n in counted if counted[n] > LONGEST), key=lambda n: -counted[n])
    return max(counted.values()), [f"{path}: {counted[path]} lines" for path in above]


def words_aloud() -> Figure:
    texts = [(LABKIT / f"pipeline/{part}.py").read_text(encoding="utf-8") for part in ALOUD]
    return len(re.findall(r"\w+", " ".join(texts))), []


def imports_back_up() -> Figure:
    """Those that the contracts of import-linter still let pass; it finds any other one itself."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    passed = [line for contract in contracts for line in contract.get("ignore_imports", [])]
    return len(passed), passed


def trees(folder: Path = LABKIT) -> Iterator[tuple[str, ast.Module]]:
    for path in folder.rglob("*.py"):
        yield name(path), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the full name of whatever is imported, wherever that is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def attributes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr


def threads_in_views() -> Figure:
    """Imports of what makes threads, and locks of any kind."""
    found = []
    for path, tree in trees(LABKIT / "views"):
        words = [
            (line, module) for line, module in imported(tree) if module.split(".")[0] in THREADS
        ]
        words += [(line, word) for line, word in attributes(tree) if word in LOCKS]
        found += [f"{path}:{line}: {word}" for line, word in words]
    return len(found), found


def own_names() -> set[str]:
    """Every name that this package gives itself: to functions, classes, variables, attributes."""
    found = {path.stem for path in files()}
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls"):
                found.add(node.attr)
    return found


def private_names() -> Figure:
    """Private names that are none of this package's own, and so another one's."""
    ours, found = own_names() | PUBLIC, []
    for path, tree in trees():
        words = [(line, word) for line, module in imported(tree) for word in module.split(".")]
        found += [
            f"{path}:{line}: {word}"
            for line, word in (*words, *attributes(tree))
            if re.match("_[^_]", word) and word not in ours and path != "lab.py"
        ]
    return len(found), found


def seconds_of_import() -> Figure:
    """In a new process, of the processor's time: what else runs here takes no part in it."""

    def once() -> float:
        return float(subprocess.run([sys.executable, "-c", TIMED], capture_output=True).stdout)

    return statistics.median(once() for _ in range(5)), []


# The bars of the house. Those that hold are kept: whatever breaks one of them fails.
BARS = [
    *(
        Bar(
            f"lines of {room}, drawn with {drawn or 'no number'}",
            partial(lines_of, room),
            most,
            kept=True,
        )
        for room, (drawn, most) in ROOMS.items()
    ),
    Bar("lines", lambda: (rooms().total(), []), 6800, kept=False),
    Bar("lines of the longest file", longest_file, LONGEST, kept=True),
    Bar(f"words of {', '.join(ALOUD)}, read aloud", words_aloud, 2250, kept=True),
    Bar("imports that run back up", imports_back_up, 0, kept=True),
    Bar("threads and locks in views", threads_in_views, 0, kept=True),
    Bar("private names of other packages", private_names, 0, kept=True),
    Bar("seconds of 'from labkit import Lab'", seconds_of_import, 0.6, kept=False),
]


def main() -> int:
    """Print everything.

    Returns:
        1 when a bar that is kept is broken, else 0.
    """
    broken = False
    for bar in BARS:
        figure, where = bar.measure()
        verdict = "" if figure <= bar.most else "  BROKEN" if bar.kept else "  not yet"
        print(f"{bar.name:<56}{round(figure, 2):>6}  of {bar.most:g}{verdict}")
        for place in where:
            print(f"    {place}")
        broken |= bar.kept and figure > bar.most
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
