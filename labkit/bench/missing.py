"""A cell that is run out of order gives a sentence."""

import ast
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from IPython.core.getipython import get_ipython

from labkit.bench.cells import notebook_name
from labkit.core.settings import REPOSITORY


def explain() -> None:
    """In this kernel: say which cell of the notebook makes a name that is missing."""
    if shell := get_ipython():
        shell.set_custom_exc((NameError,), _explain)


def _explain(shell: Any, kind: type, err: NameError, trace: Any, tb_offset: Any = None) -> None:
    line = _maker(str(err.name))
    if line:
        sentence = (
            f"{err.name} is made by another cell, which this kernel has not run yet:\n    {line}\n"
            f"Run that one first, or in the menu: Run > Run All Above Selected Cell."
        )
        err._render_traceback_ = lambda: [sentence]  # type: ignore[attr-defined]
    shell.showtraceback((kind, err, trace), tb_offset=tb_offset)


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
