"""The list of runs on the page: the newest ones, each with a button of its own."""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from ipywidgets import HTML, Button, Dropdown, HBox, Text, VBox

from labkit.ask import runs
from labkit.views.live import close

SHOWN = 10


class RunList:
    """Shows rows as they are given, narrowed by a status and a text.

    Args:
        opened: is told the workflow id of a run whose button was pressed.
        narrowed: is called when another status or text is asked for.
    """

    def __init__(self, opened: Callable[[str], None], narrowed: Callable[[], None]) -> None:
        self._opened = opened
        self.status = Dropdown(description="Status", options=runs.FILTERS)
        self.text = Text(description="Name", placeholder="part of it")
        for control in (self.status, self.text):
            control.observe(lambda _: narrowed(), "value")
        self.buttons: dict[str, RowButton] = {}
        self._seen: tuple[list[runs.Row], list[runs.Row]] | None = None
        self.summary, self.box = HTML(), VBox()
        controls = HBox([self.status, self.text])
        self.widget = VBox([HTML("<h2>Runs</h2>"), controls, self.summary, self.box])

    def show(self, rows: Sequence[runs.Row], chosen: str) -> None:
        """Show the newest rows that are asked for.

        Args:
            rows: newest first.
            chosen: the workflow id of the run that is shown on the page.
        """
        found = [row for row in rows if row.matches(self.status.value, self.text.value)]
        now = datetime.now(UTC)
        buttons = {row.id: self._button(row.id) for row in found[:SHOWN]}
        for row, button in zip(found, buttons.values(), strict=False):
            button.show(row, now, row.id == chosen)
        if self.box.children != tuple(buttons.values()):
            self.box.children = tuple(buttons.values())
        for gone in self.buttons.keys() - buttons.keys():
            close(self.buttons[gone])
        self.buttons = buttons
        shown = f"The newest {len(buttons)} of {len(found)} shown" if found else "None to show"
        if (seen := (list(rows), found)) != self._seen:
            words = f"<p>{runs.summary(rows).rstrip('.')}. {shown}. {as_csv(found)}</p>"
            self.summary.value, self._seen = words, seen

    def _button(self, id: str) -> "RowButton":
        """A press opens the run that the button belongs to, whatever has come since."""
        if id not in self.buttons:
            self.buttons[id] = RowButton(tooltip=id)
            self.buttons[id].on_click(lambda _: self._opened(id))
        return self.buttons[id]


def as_csv(rows: Sequence[runs.Row]) -> str:
    """A link that saves the rows as a CSV: id, status, step, start (ISO 8601, UTC) and accuracy."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(["workflow_id", "status", "step", "started", "accuracy"])
    lines.writerows([it.id, it.status, it.step, it.started.isoformat(), it.accuracy] for it in rows)
    data = quote(text.getvalue())
    return f"<a download='runs.csv' href='data:text/csv;charset=utf-8,{data}'>Save as CSV</a>"


class RowButton(Button):
    """One run on one line, in columns of fixed width; a class of CSS colours it by its status."""

    kind = ""

    def show(self, row: runs.Row, now: datetime, chosen: bool) -> None:
        name = row.name if len(row.name) <= 22 else row.name[:21] + "…"
        mark, age = "▸" if chosen else " ", runs.age(row.started, now)
        self.description = f"{mark} {name:<22} {row.words:<34} {age:>6}"
        kind = f"labkit-{row.status.replace(' ', '-')}"
        if kind != self.kind:
            self.remove_class(self.kind).add_class("labkit-row").add_class(kind)
            self.kind = kind
