"""What can be done to runs on the page: to the one that is shown, and to all that wait."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ipywidgets import HTML, Text, VBox

from labkit.ask.runs import WAITING, Row
from labkit.core.settings import LabError
from labkit.views.buttons import row_of_buttons

Aside = Callable[[Callable[[], Any]], "Future[Any]"]


class Together:
    """Decides all runs that wait for approval, with one name and one reason.

    Args:
        decide: is told an id, whether it is approved, by whom and why.
        by: the field with the name of whoever sits here.
        aside: does a press elsewhere, so that the page answers meanwhile.
    """

    def __init__(
        self, decide: Callable[[str, bool, str, str], Any], by: Text, aside: Aside
    ) -> None:
        self._decide, self._by = decide, by
        self._ids: list[str] = []
        self._why = Text(description="Why", placeholder="for all of them")
        presses = {
            "Approve all that wait": lambda: self.decide(True),
            "Reject all that wait": lambda: self.decide(False),
        }
        self._words = HTML()
        self.widget = VBox([self._words, self._why, row_of_buttons("", presses, aside)])
        self.widget.layout.display = "none"

    def show(self, rows: Sequence[Row]) -> None:
        """Offer it when more than one run waits."""
        self._ids = [row.id for row in rows if row.status == WAITING]
        self._words.value = f"<h3>{len(self._ids)} runs wait for you</h3>"
        self.widget.layout.display = "" if len(self._ids) > 1 else "none"

    def decide(self, approved: bool) -> str:
        """Decide each, and say how it went.

        Raises:
            LabError: no name is given, or no reason to reject.
        """
        by, why = self._by.value.strip(), self._why.value.strip()
        if not by:
            raise LabError("Write your name first, at the top: the table of approvals keeps it.")
        if not (approved or why):
            raise LabError("Write a reason first: whoever made the models wants one.")
        done, refused = 0, []
        for id in self._ids:
            try:
                self._decide(id, approved, by, why)
                done += 1
            except LabError as err:
                refused.append(str(err))
        verb = "approved" if approved else "rejected"
        return " ".join([f"{done} of {done + len(refused)} {verb}.", *refused])


def acts_on(run: Any, aside: Aside) -> VBox:
    """Buttons for one run: each is a call of :class:`labkit.run.Run`."""
    stored = HTML()
    acts = {
        "Run again": lambda: _done(run.again, "It runs again, from before what failed."),
        "Retry now": lambda: _done(run.retry_now, "The wait is cut short."),
        "Cancel": lambda: _done(run.cancel, "It is asked to end, and cleans up."),
        "Terminate": lambda: _done(run.terminate, "It is ended at once; nothing is cleaned up."),
        "X-ray": lambda: _xray(run, stored),
    }
    return VBox([row_of_buttons("", acts, aside), stored])


def _xray(run: Any, place: HTML) -> str:
    """Show what the server has stored, or put it away."""
    if place.value:
        place.value = ""
        return "Put away."
    found = run.xray()
    place.value = (
        "<div class='labkit-wide' role='region' aria-label='What the server stores' tabindex='0'>"
        f"{found._repr_html_()}</div>"
    )
    return f"{len(found.items)} items are stored on the server."


def _done(act: Callable[[], Any], words: str) -> str:
    act()
    return words
