"""A cell that fails gives a sentence: it was run out of order, or the lab refuses what it asks."""

import ast
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from IPython.core.getipython import get_ipython
from temporalio.exceptions import ApplicationError

from labkit.bench.cells import notebook_name
from labkit.core.settings import REPOSITORY

LABKIT = REPOSITORY / "labkit"

# What the lab says no with, other than its own errors, which are shown as a sentence anyway.
NOES = (AssertionError, ValueError, ApplicationError)


def explain() -> None:
    """In this kernel: say which cell makes a name that is missing, and show no code of the lab."""
    if shell := get_ipython():
        shell.set_custom_exc((NameError, *NOES), _explain)


def _explain(
    shell: Any, kind: type, err: Exception, trace: TracebackType, tb_offset: Any = None
) -> None:
    if isinstance(err, NameError) and (line := _maker(str(err.name))):
        sentence = (
            f"{err.name} is made by another cell, which this kernel has not run yet:\n    {line}\n"
            f"Run that one first, or in the menu: Run > Run All Above Selected Cell."
        )
        err._render_traceback_ = lambda: [sentence]  # type: ignore[attr-defined]
    elif isinstance(err, NOES):
        _leave_out_ours(trace)
    shell.showtraceback((kind, err, trace), tb_offset=tb_offset)


def _leave_out_ours(trace: TracebackType) -> None:
    """Where the lab itself says no, the participant's line and the sentence tell all."""
    steps = [trace]
    while following := steps[-1].tb_next:
        steps.append(following)
    ours = [Path(it.tb_frame.f_code.co_filename).is_relative_to(LABKIT) for it in steps]
    if ours[-1] and not ours[0]:
        steps[ours.index(True) - 1].tb_next = None


def _maker(name: str) -> str:
    """The first line of the cell that makes a name; empty when none does."""
    import nbformat

    path = REPOSITORY / "notebooks" / f"{notebook_name('')}.ipynb"
    with suppress(OSError, ValueError):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and name in _names(cell.source.splitlines()):
                return str(cell.source.splitlines()[0])
    return ""


def _names(lines: Sequence[str]) -> set[str]:
    """What a cell makes: variables, functions, classes and imports."""
    found: set[str] = set()
    with suppress(SyntaxError):
        for node in ast.walk(ast.parse("\n".join(it for it in lines if not it.startswith("%")))):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                found |= {alias.asname or alias.name for alias in node.names}
    return found
