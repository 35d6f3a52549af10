"""Buttons for what a participant breaks; each has a plain call that does the same."""

import html
import threading
from collections.abc import Callable
from typing import Any

import ipywidgets


def say(line: ipywidgets.HTML, words: str) -> None:
    """Let a line of the page say something, to screen readers, too."""
    line.value = f"<span role='status'>{html.escape(words)}</span>"


def row_of_buttons(
    name: str, actions: dict[str, Callable[[], Any]], background: bool = False
) -> ipywidgets.HBox:
    """A button an action, and a line that says in words how the last one went.

    Args:
        name: what the buttons act on; part of each label, for screen readers, too.
        actions: the words on the buttons, and what they do.
        background: act in a thread, so that the page's other buttons answer meanwhile.
    """
    said = ipywidgets.HTML(layout={"margin": "0 1em"})
    labels = [f"{word} {name}".strip() for word in actions]
    width = {"width": "max-content"}
    buttons = [ipywidgets.Button(description=text, tooltip=text, layout=width) for text in labels]

    def press(action: Callable[[], Any]) -> None:
        for button in buttons:
            button.disabled = True
        say(said, "under way …")
        try:
            say(said, str(action()))
        except Exception as err:
            say(said, f"It did not work: {err}")
        finally:
            for button in buttons:
                button.disabled = False

    def pressed(action: Callable[[], Any]) -> None:
        if background:
            threading.Thread(target=press, args=(action,), daemon=True).start()
        else:
            press(action)

    for button, action in zip(buttons, actions.values(), strict=True):
        button.on_click(lambda _, action=action: pressed(action))
    return ipywidgets.HBox([*buttons, said])
