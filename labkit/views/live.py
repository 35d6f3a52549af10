"""What is alive on a notebook's page, and what the saved notebook keeps of it.

A widget in a saved notebook has no kernel that could bring it to life again. So one is shown only
where somebody watches, with a sentence or a picture beside it, which is what the file keeps (see
:mod:`labkit.views.notebooks`), and what stands in its place when it is closed.
"""

import os
import sys
import uuid
from collections.abc import Callable
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"
# By the id of its display: what takes a widget off the page.
_shown: dict[str, Callable[[], None]] = {}


def in_jupyter() -> bool:
    """True in a Jupyter kernel; False in a script, a test or the terminal's IPython."""
    return hasattr(_shell(), "kernel")


def watched() -> bool:
    """True where a page shows what a cell displays: JupyterLab, Notebook, VS Code, Voilà.

    A program that runs notebooks, such as nbval, drops every change of a display.
    """
    names = getattr(_shell(), "user_ns", {})
    page = os.environ.get("JPY_SESSION_NAME") or os.environ.get("VOILA_REQUEST_URL")
    return in_jupyter() and bool(page or names.get("__vsc_ipynb_file__"))


def display(bundle: dict[str, Any], id: str, again: bool = False) -> None:
    """Show something under an id, or in place of what was shown there."""
    from IPython.display import display, update_display

    (update_display if again else display)(bundle, raw=True, display_id=id)


def show_widget(
    widget: Any, kept: dict[str, str], end: Callable[[], None] | None = None, calls: str = ""
) -> str:
    """Display a widget where somebody watches, and say everywhere which calls do the same.

    Args:
        widget: what to show.
        kept: what a saved notebook keeps of it: text, or a picture with a text.
        end: takes it off the page when the lab stops; else ``kept`` stands there then.
        calls: what does the same as the widget, for whoever does not see it.

    Returns:
        The id of its display, for :func:`leave`; empty when nothing was displayed.
    """
    if calls:
        print(f"The same as calls: {calls}")
    if not watched():
        return ""
    id = uuid.uuid4().hex
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({WIDGET: view, **kept}, id)

    def leave_what_is_kept() -> None:
        leave(id, kept)
        close(widget)

    _shown[id] = end or leave_what_is_kept
    return id


def leave(id: str, kept: dict[str, str]) -> None:
    """Let a text, or a picture with a text, stand where a widget was."""
    if id:
        _shown.pop(id, None)
        display(kept, id, again=True)


def leave_all() -> None:
    """Take every widget off the page: the lab that they ask stops."""
    for end in list(_shown.values()):
        end()


def close(widget: Any) -> None:
    """Close a widget and what is in it, with their layouts and styles: nothing stays behind."""
    for child in getattr(widget, "children", ()):
        close(child)
    for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
        if part is not None:
            part.close()


def _shell() -> Any:
    """IPython's shell; None outside of it, where IPython need not even be imported."""
    loaded = sys.modules.get("IPython")
    return loaded.get_ipython() if loaded else None
