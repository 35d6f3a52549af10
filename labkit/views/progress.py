"""A run on the screen: a strip that changes in Jupyter, plain lines elsewhere."""

import uuid
from typing import Self

from labkit.ask.view import View
from labkit.views.live import display, in_jupyter, watched
from labkit.views.strip import as_strip


class Progress:
    """Shows views as they come, and leaves the last one as one line of plain text.

    Where somebody watches, one display changes in place, and only when there is something new.
    What stays of it in the saved notebook needs no kernel: the strip as it was last, and the line.

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
        if not self._id:
            print(text)
        elif self._table:
            display({"text/plain": text}, self._id, again=bool(self._last))
        else:
            self._show_strip(as_strip(self._view, text), text)

    def show(self, view: View) -> None:
        self._view = view
        if self._id:
            self._show_strip(as_strip(view), view.text())
        elif not in_jupyter():
            self._print_news(view)

    def _show_strip(self, strip: str, text: str) -> None:
        if strip != self._last:
            display({"text/html": strip, "text/plain": text}, self._id, again=bool(self._last))
            self._last = strip

    def _print_news(self, view: View) -> None:
        for step, word, remark in view.rows():
            if word not in ("to come", "not reached") and (step, word) not in self._seen:
                self._seen.add((step, word))
                print(f"{step}: {word} {remark}".rstrip(), flush=True)
