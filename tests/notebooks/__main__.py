"""``make notebooks``: execute every notebook again, and keep outputs without volatile metadata."""

import os
import shutil
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from labkit.core.settings import REPOSITORY
from tests.conftest import make_home

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
# The dashboard's notebook is a tool, and no lesson with a number.
LESSONS = [path for path in NOTEBOOKS if path.stem != "dashboard"]
CELL_SECONDS = 120
# Under this name a notebook keeps how many seconds of the machine it took.
MACHINE = "machine"
# What JupyterLab writes when it opens a notebook. Where one says less, it is unsaved at once.
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
        "version": "3.11.2",
    },
}


def clean(notebook: NotebookNode) -> NotebookNode:
    """Drop what differs from machine to machine and teaches nobody anything."""
    kept = {MACHINE: notebook.metadata[MACHINE]} if MACHINE in notebook.metadata else {}
    notebook.metadata = nbformat.from_dict(kept | METADATA)
    widget = "application/vnd.jupyter.widget-view+json"
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if widget not in o.get("data", {})]
            for output in cell.outputs:
                if "metadata" in output:
                    output.metadata = {}
    return notebook


def execute(path: Path) -> float:
    """Run a notebook as a participant's kernel would, and write it back.

    Returns:
        How long it took, in seconds.
    """
    started = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": path.parent}}
    )
    client.execute()
    seconds = time.monotonic() - started
    notebook.metadata[MACHINE] = {"seconds": round(seconds)}
    nbformat.write(clean(notebook), path)
    return seconds


def main(names: list[str]) -> None:
    chosen = [path for path in NOTEBOOKS if not names or path.name.startswith(tuple(names))]
    for path in chosen:
        home = make_home()
        # With the usual ports, as a participant sees them.
        os.environ["LABKIT_HOME"] = str(home)
        try:
            print(f"{path.name}: {execute(path):.0f} s")
        finally:
            shutil.rmtree(home)


if __name__ == "__main__":
    main(sys.argv[1:])
