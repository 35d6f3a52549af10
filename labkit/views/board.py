"""What serves on dev and prod, as a table, and the button that puts the model before back."""

import html
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ipywidgets import HTML, Dropdown, Text, VBox

from labkit.ask.serving import ENVIRONMENTS, Serving
from labkit.views.buttons import row_of_buttons

HEADS = ("on", "model", "since (UTC)", "from", "accuracy", "approved by")


class Board:
    """Shows the current models.

    Args:
        rollback: is told the environment, who wants it, and why; says what serves then.
        by: the field with the name of whoever sits here.
        aside: does a press elsewhere, so that the page answers meanwhile.
    """

    def __init__(
        self,
        rollback: Callable[[str, str, str], str],
        by: Text,
        aside: Callable[[Callable[[], Any]], "Future[Any]"],
    ) -> None:
        self.table = HTML()
        self._where = Dropdown(description="Where", options=ENVIRONMENTS[::-1])
        self._why = Text(description="Why", placeholder="why it must go")
        roll = {"Roll back": lambda: rollback(self._where.value, by.value, self._why.value)}
        self.widget = VBox(
            [
                HTML("<h2>What serves</h2>"),
                self.table,
                self._where,
                self._why,
                row_of_buttons("", roll, aside),
            ]
        )
        self.show(())

    def show(self, rows: Sequence[Serving]) -> None:
        """Show a row an environment."""
        heads = "".join(f"<th scope='col'>{head}</th>" for head in HEADS)
        body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
        self.table.value = (
            f"<div class='labkit-wide' role='region' aria-label='Current models' tabindex='0'>"
            f"<table aria-label='What serves'><thead><tr>{heads}</tr>"
            f"</thead><tbody>{body}</tbody></table></div>"
        )


def _cells(row: Serving) -> str:
    who = f"{row.approved_by}: {row.reason}" if row.reason else row.approved_by
    accuracy = "" if row.accuracy is None else f"{row.accuracy:.2f}"
    since = row.since[:16].replace("T", " ")
    shown = (row.model or row.remark, since, row.file, accuracy, who or (row.model and row.remark))
    cells = "".join(f"<td>{html.escape(text)}</td>" for text in shown)
    return f"<th scope='row'>{row.environment}</th>{cells}"
