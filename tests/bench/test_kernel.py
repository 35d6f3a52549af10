"""The bench in a real kernel, as a notebook uses it."""

import os
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from labkit.bench.content import ROOT
from labkit.core.paths import REPOSITORY
from tests.conftest import at

CELLS = [
    'from labkit.bench import exercises, try_out\n\nq = exercises("00")',
    "q.hello.check()",
    "%%mine hello\n" + (ROOT / "00_hello" / "stub.py").read_text(encoding="utf-8"),
    "q.hello.check()",
    "%%mine hello\ndef hello(:",
    "%%mine hello\n"
    + (ROOT / "00_hello" / "solution.py")
    .read_text(encoding="utf-8")
    .replace("    return f", '    print("greeting", name)\n    return f'),
    "q.hello.check()",
    'try_out(Hello, "Ada", activities=[hello], process=True)',
    "import time\n\nfrom temporalio import activity\n\n\n"
    '@activity.defn(name="hello")\ndef hang(name: str) -> str:\n    time.sleep(100)\n\n\n'
    'try_out(Hello, "Ada", activities=[hang], seconds=0.5).hung',
    "q",
]


@pytest.fixture(scope="module")
def outputs(temporal_home: Path) -> list[str]:
    """What each cell shows. Afterwards no process of the kernel is left."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    client = NotebookClient(
        notebook,
        timeout=60,
        allow_errors=True,
        resources={"metadata": {"path": str(temporal_home)}},
    )
    before = set(psutil.Process().children(recursive=True))
    client.execute(env=os.environ | at(temporal_home) | {"PYTHONPATH": str(REPOSITORY)})
    _, alive = psutil.wait_procs(
        set(psutil.Process().children(recursive=True)) - before, timeout=10
    )
    assert not alive
    return ["".join(map(text_of, cell.outputs)) for cell in notebook.cells]


def text_of(output: nbformat.NotebookNode) -> str:
    if output.output_type == "error":
        return "\n".join(output.traceback)
    return output.get("text") or output.data["text/plain"]


def test_exercises_print_nothing_when_they_are_opened(outputs: list[str]) -> None:
    assert outputs[0] == ""


def test_no_cell_the_stub_and_the_solution(outputs: list[str]) -> None:
    assert outputs[1].startswith("Not attempted yet: run the cell that begins with %%mine hello")
    assert outputs[2] == outputs[5] == ""
    assert outputs[3].startswith("Not attempted yet: change the cell")
    assert outputs[6].endswith(
        "Right. Your first workflow. Its history holds the activity's name, argument and result.\n"
    )


def test_what_an_activity_prints_is_in_the_cell(outputs: list[str]) -> None:
    assert "greeting Ada\n" in outputs[6]
    assert outputs[7].startswith("greeting Ada\nreturned 'Hello, Ada!' after ")


def test_a_sentence_and_no_traceback(outputs: list[str]) -> None:
    assert outputs[4] == (
        "Line 2 of this cell cannot be read: invalid syntax\n    def hello(:\n              ^"
    )


def test_a_thread_that_hangs_keeps_no_kernel_from_ending(outputs: list[str]) -> None:
    assert outputs[8] == "True"


def test_the_overview(outputs: list[str]) -> None:
    assert "hello           right           Write an activity" in outputs[9]
