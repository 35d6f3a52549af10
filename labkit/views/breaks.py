"""What can be broken and mended on the page: its state in words, and buttons."""

import html
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ipywidgets import HTML, Box, Dropdown, HBox, VBox

from labkit.views.buttons import row_of_buttons

TITLES = {"postgres": "PostgreSQL", "temporal": "Temporal", "models": "Model servers"}
HOW_OFTEN = {"every time": 0, "once": 1, "twice": 2, "three times": 3}


BROKEN = {
    "postgres": "PostgreSQL is {}",
    "temporal": "Temporal is {}",
    "models": "the model servers are {}",
    "password": "the password is {}",
    "fault": "{}",
}
FINE = ("running", "right", "none")


class Breaks:
    """What is broken now, and a group of buttons a thing that can be broken.

    Args:
        scenarios: does what the buttons say: a :class:`labkit.scenarios.Scenarios`.
        encrypt: goes on with an encrypted worker, or with a plain one.
        aside: does a press elsewhere, so that the page answers meanwhile.
    """

    def __init__(
        self,
        scenarios: Any,
        encrypt: Callable[[bool], str],
        aside: Callable[[Callable[[], Any]], "Future[Any]"],
    ) -> None:
        activity = Dropdown(description="Activity", options=scenarios.FAULTS, value="training")
        times = Dropdown(description="Fails", options=HOW_OFTEN)
        rows: dict[str, dict[str, Callable[[], Any]]] = {
            server: {
                f"Stop {word}": lambda s=server: scenarios.stop(s),  # type: ignore[misc]
                f"Start {word}": lambda s=server: scenarios.start(s),  # type: ignore[misc]
            }
            for server, word in scenarios.SERVERS.items()
        }
        rows["password"] = {
            "Wrong password": scenarios.wrong_password,
            "Right password": scenarios.right_password,
        }
        rows["worker"] = {
            "Encrypted worker": lambda: encrypt(True),
            "Plain worker": lambda: encrypt(False),
        }
        rows["fault"] = {
            "Inject fault": lambda: scenarios.inject(activity.value, times.value or None),
            "Clear fault": scenarios.clear_fault,
        }
        self.state = {name: HTML() for name in rows}
        self._broken = HTML()
        mend = row_of_buttons("", {"Put everything right": scenarios.put_right}, aside)
        self.banner = VBox([self._broken, mend])
        self.banner.layout.display = "none"
        above: dict[str, list[Any]] = {"fault": [HBox([activity, times])]}
        grid = Box(
            [
                VBox([self.state[name], *above.get(name, []), row_of_buttons("", actions, aside)])
                for name, actions in rows.items()
            ]
        )
        grid.add_class("labkit-scenarios")
        self.widget = VBox([HTML("<h2>Break things, and mend them</h2>"), grid])

    def show(self, states: dict[str, str]) -> None:
        """Show each state, in words; and above the page what is broken, while something is."""
        broken = [
            text.format(states[name]) for name, text in BROKEN.items() if states[name] not in FINE
        ]
        now = f"Broken now: {'; '.join(broken)}" if broken else "Nothing is broken now"
        self._broken.value = f"<p role='status'>{html.escape(now)}.</p>"
        (self.banner.add_class if broken else self.banner.remove_class)("labkit-banner")
        # Once it is there it stays, and says that all is well: the focus may be on its button.
        if broken:
            self.banner.layout.display = ""
        for name, words in states.items():
            title = TITLES.get(name, name.capitalize())
            self.state[name].value = f"<strong>{title}:</strong> {html.escape(words)}"
