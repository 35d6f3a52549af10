"""A participant runs a cell again: it works, or it says in a sentence why it cannot."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import at
from tests.notebooks.__main__ import CELL_SECONDS, LESSONS
from tests.notebooks.nbval import home_of_a_course

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
# What says in a sentence why a cell cannot be run again: the lab's errors, a proof that fails, and
# the SDK's own, where a cell calls the SDK.
NEWLINE = "\n"
SENTENCES = {
    *("LabError", "Silence", "NothingToAsk", "UnknownExercise", "AssertionError"),
    *("ApplicationError", "RPCError", "WorkflowFailureError"),
    *("WorkflowAlreadyStartedError", "WorkflowUpdateFailedError", "ActivityError"),
}


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_cell_that_is_run_twice_gives_a_sentence(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [
        cell for cell in notebook.cells if cell.cell_type == "code" for cell in (cell, cell.copy())
    ]
    with home_of_a_course() as home:
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            allow_errors=True,
            store_widget_state=False,
            resources={"metadata": {"path": path.parent}},
        )
        client.execute(env=os.environ | at(home))
    errors = [
        f"{output.ename}: {output.evalue.partition(NEWLINE)[0]}\n{cell.source}"
        for cell in notebook.cells
        for output in cell.outputs
        if output.output_type == "error" and output.ename not in SENTENCES
    ]
    assert not errors, "\n\n".join(errors)
