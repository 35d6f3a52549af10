"""Who looks at the page, what its address asks for, and whether its lab is the one on duty."""

import html
import os
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from ipywidgets import HTML, Text, VBox

from labkit.core.files import write_atomically
from labkit.core.settings import paths
from labkit.views.buttons import row_of_buttons


def asked_for() -> str:
    """The workflow id that the page's address names, as in ``?run=ID``; empty when it does not."""
    return parse_qs(os.environ.get("QUERY_STRING", "")).get("run", [""])[0]


def name_field() -> Text:
    """A field for the name of whoever sits here, which the lab remembers in ``.lab/name``."""
    file = paths().lab / "name"
    known = ""
    with suppress(OSError, ValueError):
        known = file.read_text(encoding="utf-8")
    field = Text(description="You are", value=known, continuous_update=False)
    field.observe(lambda change: write_atomically(file, change["new"].encode()), "value")
    return field


class TakeOver:
    """Says that another lab is on duty, and offers to take over.

    Args:
        take_over: puts this lab on duty.
        aside: does a press elsewhere, so that the page answers meanwhile.
    """

    def __init__(
        self, take_over: Callable[[], Any], aside: Callable[[Callable[[], Any]], "Future[Any]"]
    ) -> None:
        self._words = HTML()
        button = row_of_buttons("", {"Take over": lambda: _said(take_over)}, aside)
        self.widget = VBox([self._words, button])
        self.widget.layout.display = "none"

    def show(self, relieved_by: str) -> None:
        """Show it when there is another. Then it stays: a button that goes loses the focus."""
        if relieved_by:
            goes_on = "Its worker and watcher do the work; this page shows it all the same."
            self._words.value = f"<p>{html.escape(relieved_by)} {goes_on}</p>"
            self.widget.layout.display = ""
        else:
            self._words.value = "<p>This page's lab is on duty.</p>"


def _said(take_over: Callable[[], Any]) -> str:
    take_over()
    return "It has taken over."
