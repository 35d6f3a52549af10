"""Buttons for what a participant breaks; each has a plain call that does the same."""

import html
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from typing import Any

import ipywidgets

BUSY = "labkit-busy"
# JupyterLab looks for a shortcut from the element that has the focus outwards, and gives up at one
# with this attribute. Most shortcuts ("b" adds a cell) fit the focused element itself, so that it
# must be there, and not on a box around it.
OWN_KEYS = (
    "this.closest('.labkit-own').addEventListener('focusin',"
    " event => event.target.setAttribute('data-lm-suppress-shortcuts', 'true'))"
)
OWN = f"""<style onload="{OWN_KEYS}">
.labkit-own.labkit-own :focus-visible {{
  outline: 3px solid var(--jp-ui-font-color1, #1a1a1a) !important;
  outline-offset: 2px;
}}
.{BUSY} {{ cursor: progress; opacity: 0.8; }}
</style>"""


def own(box: ipywidgets.Box) -> ipywidgets.Box:
    """Keys pressed in a box are the box's, and where the focus is can be seen in any theme."""
    box.add_class("labkit-own")
    box.children = (ipywidgets.HTML(OWN, layout={"display": "none"}), *box.children)
    return box


def say(line: ipywidgets.HTML, words: str) -> None:
    """Let a line of the page say something, to screen readers, too."""
    line.value = f"<span role='status'>{html.escape(words)}</span>"


def mark(buttons: Iterable[ipywidgets.Button], busy: bool) -> None:
    """Show that presses do nothing for now. (A disabled button would lose the keyboard's focus.)"""
    for button in buttons:
        (button.add_class if busy else button.remove_class)(BUSY)


def at_once(action: Callable[[], Any]) -> "Future[Any]":
    """Do it here and now."""
    done: Future[Any] = Future()
    try:
        done.set_result(action())
    except Exception as err:
        done.set_exception(err)
    return done


def outcome(done: "Future[Any]") -> str:
    """What came of it, in words."""
    try:
        return str(done.result())
    except CancelledError:
        return "It did not work: the lab was stopped meanwhile."
    except Exception as err:
        return f"It did not work: {err}"


def row_of_buttons(
    name: str,
    actions: dict[str, Callable[[], Any]],
    aside: Callable[[Callable[[], Any]], "Future[Any]"] = at_once,
) -> ipywidgets.HBox:
    """A button an action, and a line that says in words how the last one went.

    Args:
        name: what the buttons act on; part of each label, for screen readers, too.
        actions: the words on the buttons, and what they do.
        aside: does an action elsewhere, so that the page's other buttons answer meanwhile.
    """
    said = ipywidgets.HTML(layout={"margin": "0 1em"})
    labels = [f"{word} {name}".strip() for word in actions]
    width = {"width": "max-content"}
    buttons = [ipywidgets.Button(description=text, tooltip=text, layout=width) for text in labels]
    under_way: list[Callable[[], Any]] = []

    def press(action: Callable[[], Any]) -> None:
        if under_way:
            return
        under_way.append(action)
        mark(buttons, True)
        say(said, "under way …")
        started = at_once(lambda: aside(action))
        if started.exception():
            finish(started)
        else:
            started.result().add_done_callback(finish)

    def finish(done: "Future[Any]") -> None:
        say(said, outcome(done))
        under_way.clear()
        mark(buttons, False)

    for button, action in zip(buttons, actions.values(), strict=True):
        button.on_click(lambda _, action=action: press(action))
    return ipywidgets.HBox([*buttons, said])
