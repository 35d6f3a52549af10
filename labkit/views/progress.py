"""A run on the screen: a widget that lives in Jupyter, plain lines elsewhere."""

import html
from typing import Any

from labkit.ask.look import View


class Progress:
    """Shows views as they come, and leaves the last one as plain text.

    The live part is an ipywidgets widget, closed at the end: it stays out of saved notebooks,
    where nothing could bring it to life again.
    """

    def __init__(self) -> None:
        self._widget: Any = None
        self._shown: set[tuple[str, str]] = set()
        if in_jupyter():
            import ipywidgets

            self._widget = ipywidgets.HTML()
            show_widget(self._widget)

    def show(self, view: View) -> None:
        if self._widget is not None:
            self._widget.value = as_html(view)
            return
        for step, word, remark in view.rows():
            if word not in ("to come", "not reached") and (step, word) not in self._shown:
                self._shown.add((step, word))
                print(f"{step}: {word} {remark}".rstrip(), flush=True)

    def finish(self, view: View | None) -> None:
        if self._widget is not None:
            self._widget.close()
        if view and self._widget is not None:
            print(view.text(live=False))
        elif view:
            print(view.headline())


def as_html(view: View) -> str:
    """The view as an accessible table: states in words, announced when they change."""
    rows = "".join(
        f"<tr><th scope='row' style='text-align:left;font-weight:normal'>{step}</th>"
        f"<td style='text-align:left;padding:0 1.5em'>{word}</td>"
        f"<td style='text-align:left'>{html.escape(remark)}</td></tr>"
        for step, word, remark in view.rows()
    )
    return (
        f"<div role='status'><strong>{html.escape(view.headline())}</strong></div>"
        f"<table aria-label='Steps of the pipeline'>{rows}</table>"
    )


def show_widget(widget: Any) -> None:
    """Display a widget, without the text that would stand in for it in a saved notebook."""
    from IPython.display import display

    mime = "application/vnd.jupyter.widget-view+json"
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({mime: view}, raw=True)


def in_jupyter() -> bool:
    """True in a Jupyter kernel; False in a script, a test or the terminal's IPython."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")
