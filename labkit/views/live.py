"""What is alive on a notebook's page, and what the saved notebook keeps of it.

A widget in a saved notebook has no kernel that could bring it to life again. So one is shown only
where somebody watches, and its display becomes plain text when it is closed.
"""

import os
import sys
import uuid
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"


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


def show_widget(widget: Any, calls: str) -> str:
    """Display a widget where somebody watches, and say in words what does the same.

    Args:
        widget: what to display.
        calls: the calls that do the same, for whoever does not see it; empty to say nothing.

    Returns:
        The id of its display, for :func:`leave_text`; empty when nothing was displayed.
    """
    id = uuid.uuid4().hex if watched() else ""
    if id:
        view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
        display({WIDGET: view}, id)
    if calls:
        print(f"The same as calls: {calls}")
    return id


def leave_text(id: str, text: str) -> None:
    """Let a text stand where a widget was: this is what the saved notebook keeps."""
    if id:
        display({"text/plain": text}, id, again=True)


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
