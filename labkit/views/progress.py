"""A run on the screen: a table that changes in Jupyter, plain lines elsewhere."""

import html
import uuid
from typing import Self

from labkit.ask.view import View
from labkit.views.live import display, in_jupyter, watched


class Progress:
    """Shows views as they come, and leaves the last one as one line of plain text.

    Where somebody watches, one display changes in place, and only when there is something new.
    What stays of it in the saved notebook is text, which needs no kernel.

    Args:
        until: the step that is waited for.
        table: leave the whole table of steps.
    """

    def __init__(self, until: str | None = None, table: bool = False) -> None:
        self._until, self._table = until, table
        self._id = uuid.uuid4().hex if watched() else ""
        self._view: View | None = None
        self._seen: set[tuple[str, str]] = set()
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """The end is shown, even if the cell was interrupted."""
        if self._view is None:
            return
        text = self._view.text(live=False) if self._table else self._view.line(self._until)
        if self._id:
            display({"text/plain": text}, self._id, again=bool(self._last))
        else:
            print(text)

    def show(self, view: View) -> None:
        self._view = view
        if self._id:
            self._show_table(as_html(view), view.text())
        elif not in_jupyter():
            self._print_news(view)

    def _show_table(self, table: str, text: str) -> None:
        if table != self._last:
            display({"text/html": table, "text/plain": text}, self._id, again=bool(self._last))
            self._last = table

    def _print_news(self, view: View) -> None:
        for step, word, remark in view.rows():
            if word not in ("to come", "not reached") and (step, word) not in self._seen:
                self._seen.add((step, word))
                print(f"{step}: {word} {remark}".rstrip(), flush=True)


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
