"""The last lines of each log of the lab, when somebody asks for them."""

import html
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ipywidgets import HTML, Dropdown, VBox

from labkit.core.settings import paths
from labkit.views.buttons import row_of_buttons

LINES, BYTES = 12, 8_000


class Logs:
    """Shows the end of a log.

    Args:
        aside: does a press elsewhere, so that the page answers meanwhile.
    """

    def __init__(self, aside: Callable[[Callable[[], Any]], "Future[Any]"]) -> None:
        self._which, self._text = Dropdown(description="Log"), HTML()
        show = row_of_buttons("", {"Show the last lines": self.show}, aside)
        self._list()
        self.widget = VBox([HTML("<h2>Logs</h2>"), self._which, show, self._text])

    def show(self) -> str:
        """Read the end of the log that is chosen, and what other logs there are, newest first."""
        self._list()
        lines = tail(self._which.value or "")
        self._text.value = (
            f"<pre role='log' tabindex='0' aria-label='Last lines of the log'>"
            f"{html.escape(lines)}</pre>"
        )
        return f"{self._which.value}: the last {len(lines.splitlines())} lines."

    def _list(self) -> None:
        chosen = self._which.value
        logs = [it for it in paths().logs.glob("*.log") if it.stat().st_size]
        names = [it.name for it in sorted(logs, key=lambda it: -it.stat().st_mtime)]
        self._which.options = names
        self._which.value = chosen if chosen in names else next(iter(names), None)


def tail(name: str) -> str:
    """The last lines of a log of the lab, by its file's name; empty when there is none."""
    file = paths().logs / name
    if not (name and file.is_file()):
        return ""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - BYTES))
        return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-LINES:])
