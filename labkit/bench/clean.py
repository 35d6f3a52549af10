"""A copy of a notebook in a kernel and a lab of its own: does it run from its first cell?"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.core.ports import is_free
from labkit.core.settings import REPOSITORY, LabError

if TYPE_CHECKING:
    import nbformat

NOTEBOOKS = REPOSITORY / "notebooks"
CELL_SECONDS = 120
FREE = range(20_000, 30_000, 10)
OWN = ("LABKIT_", "POSTGRES_", "TEMPORAL_", "JPY_SESSION_NAME")


def validate(number: str) -> None:
    """Run a copy of a notebook as it is saved, in a kernel and a lab of its own.

    Prints how long it took, or the first cell that fails, and how. Neither this lab nor the
    notebook is changed.

    Args:
        number: such as ``"03"``.

    Raises:
        LabError: there is no such notebook.
    """
    import nbformat

    path, begun = notebook_of(number), time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    print(f"A copy of {path.name}, as it is saved, runs in a lab of its own.", flush=True)
    with _home() as environment:
        failure = _first_failure(notebook, environment)
    print(
        f"{path.stem}: {failure}"
        if failure
        else f"{path.stem}: all of its cells run, in {time.monotonic() - begun:.0f} s."
    )


def _first_failure(notebook: "nbformat.NotebookNode", environment: dict[str, str]) -> str:
    """In words; empty when there is none."""
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    reached = [0]
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        store_widget_state=False,
        resources={"metadata": {"path": NOTEBOOKS}},
        on_cell_start=lambda cell, cell_index: reached.append(cell_index),
    )
    try:
        client.execute(env=environment)
    except CellExecutionError as err:
        why = f"{err.ename}: {err.evalue}".splitlines()[0]
    except CellTimeoutError:
        why = f"it has not ended after {CELL_SECONDS} s."
    except DeadKernelError:
        why = "its kernel died."
    except NoSuchKernel as err:
        return f"there is no kernel {err.name} on this machine."
    else:
        return ""
    above = [it.source for it in notebook.cells[: reached[-1]] if it.cell_type == "markdown"]
    headings = [line for text in above for line in text.splitlines() if line.startswith("#")]
    below = f', below "{headings[-1].lstrip("# ")}"' if headings else ""
    first = notebook.cells[reached[-1]].source.splitlines()[0]
    return f"cell {reached[-1]}{below}, fails.\n    {first}\n{why}"


@contextmanager
def _home() -> Iterator[dict[str, str]]:
    """The environment of a lab in a folder of its own, with ports of its own."""
    home = Path(tempfile.mkdtemp(prefix="labkit-validate-"))
    home.chmod(0o755)  # PostgreSQL's user passes through
    shutil.copytree(REPOSITORY / "config", home / "config")
    (home / "config" / "failure_simulation.json").unlink(missing_ok=True)
    first = next(port for port in FREE if all(map(is_free, range(port, port + 10))))
    environment = {name: it for name, it in os.environ.items() if not name.startswith(OWN)}
    environment |= {"LABKIT_HOME": str(home), "LABKIT_PORTS": str(first)}
    down = [sys.executable, "-m", "labkit", "down"]
    try:
        yield environment
    finally:
        subprocess.run(down, env=environment, cwd=REPOSITORY, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def notebook_of(number: str) -> Path:
    """The file of a lesson.

    Raises:
        LabError: there is none with that number.
    """
    lessons = sorted(NOTEBOOKS.glob("[0-9][0-9]-*.ipynb"))
    found = [path for path in lessons if path.name.startswith(f"{str(number).zfill(2)}-")]
    if not found:
        known = ", ".join(path.name[:2] for path in lessons)
        raise LabError(f"There is no notebook {number!r}. There are {known}.")
    return found[0]
