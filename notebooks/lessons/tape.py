"""A run drawn from its event history: a picture that steps through it, and the same as text."""

import uuid
from contextlib import ExitStack
from typing import Any

import ipywidgets
from matplotlib.figure import Figure
from temporalio.client import WorkflowHistory

from labkit.views.buttons import own, say
from labkit.views.image import as_image, png
from labkit.views.live import close, display, in_jupyter, leave, show_widget, watched
from lessons.steps import ACTIVITY, CLIENT, SERVER, WORKFLOW, Step, steps

REPLAY = "replay"
# From top to bottom: each part has a row, a name and a colour of its own.
LANES: dict[str, tuple[str, dict[str, Any]]] = {
    CLIENT: ("client", {"facecolor": "#ffffff"}),
    SERVER: ("server: event history", {"facecolor": "#e8e8e8"}),
    WORKFLOW: ("worker: workflow code", {"facecolor": "#9cc3e6"}),
    ACTIVITY: ("worker: activity code", {"facecolor": "#f2b8a0"}),
    REPLAY: ("worker: replay", {"facecolor": "#ffffff", "hatch": "///"}),
}
FONT = 12
NUMBERED_AT_MOST = 30  # events; of more, each fifth
PLAY_MILLISECONDS = 2000
PLAYING = {False: "Play", True: "Pause"}


def draw(found: list[Step], until: int | None = None) -> Figure:
    """The steps, or those up to one of them, which has a thick frame.

    An arrow leads from the history to a worker for each task, and one back for its answer.
    """
    shown = found[:until]
    lanes = [lane for lane in LANES if lane != REPLAY or any(step.replayed for step in found)]
    figure = Figure(figsize=(11, 0.4 + 0.75 * len(lanes)), layout="constrained")
    axes, row = figure.subplots(), {lane: y for y, lane in enumerate(lanes)}
    for event in range(1, _last(shown) + 1):
        numbered = _last(found) <= NUMBERED_AT_MOST or event % 5 == 0
        _box(axes, event, event, row[SERVER], SERVER, str(event) if numbered else "")
    for step in shown:
        width = 3 if until is not None and step is shown[-1] else 1
        if step.replayed:
            label = f"{step.who}: events 1 to {step.replayed}"
            _box(axes, 1, step.replayed, row[REPLAY], REPLAY, label, width)
        if step.part != SERVER:
            _box(axes, step.first, step.last, row[step.part], step.part, step.name, width)
            _arrow(axes, step.last, row[step.part], row[SERVER])
        if step.part in (WORKFLOW, ACTIVITY):
            _arrow(axes, step.first, row[SERVER], row[step.part])
    axes.set_yticks(range(len(lanes)), [LANES[lane][0] for lane in lanes], fontsize=FONT)
    axes.set_ylim(len(lanes) - 0.6, -0.4)
    axes.set_xlim(0.4, _last(found) + 0.6)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _last(found: list[Step]) -> int:
    return max((step.last for step in found), default=0)


def _box(
    axes: Any, first: int, last: int, y: int, lane: str, label: str, linewidth: float = 1
) -> None:
    left, look = first - 0.4, LANES[lane][1]
    width = last - first + 0.8
    axes.barh(y, width, left=left, height=0.5, edgecolor="black", linewidth=linewidth, **look)
    behind = {"boxstyle": "square,pad=0.1", "edgecolor": "none", "facecolor": look["facecolor"]}
    centre = {"ha": "center", "va": "center", "fontsize": FONT - 2}
    axes.text(left + width / 2, y, label, bbox=behind if "hatch" in look else None, **centre)


def _arrow(axes: Any, x: int, begin: int, end: int) -> None:
    edge = 0.25 if end > begin else -0.25
    look = {"arrowstyle": "->", "color": "black"}
    axes.annotate("", (x, end - edge), (x, begin + edge), arrowprops=look)


class Tape:
    """A picture that steps through a run, with its text below.

    Where somebody watches, it has buttons. Elsewhere it is the whole picture.
    """

    def __init__(self, history: WorkflowHistory) -> None:
        self.steps, self._display = steps(history), ""
        self._widget: ipywidgets.VBox | None = None

    def __str__(self) -> str:
        rows = [("step", "events", "who did what")]
        rows += [(str(n), step.events, str(step)) for n, step in enumerate(self.steps, 1)]
        return "\n".join(f"{number:<6}{events:<10}{what}" for number, events, what in rows)

    def show(self, at_stop: ExitStack | None = None) -> None:
        """Display it.

        Args:
            at_stop: called before the lab stops; the whole picture takes its place then.
        """
        if watched():
            self._widget = self.widget()
            self._display = show_widget(self._widget, self._whole(), self.close)
            if at_stop:
                at_stop.callback(self.close)
        elif in_jupyter():
            display(self._whole(), uuid.uuid4().hex)
        print(self)

    def close(self) -> None:
        """Leave the whole picture, which needs no kernel."""
        if self._widget:
            leave(self._display, self._whole())
            close(self._widget)
            self._widget = None

    def widget(self) -> ipywidgets.VBox:
        """The picture at one step, what happens in it, and how to go on: buttons and a number."""
        picture, said, most = ipywidgets.HTML(), ipywidgets.HTML(), len(self.steps)
        number = ipywidgets.BoundedIntText(1, 1, most, description="Step")
        # It counts in the page. Its own buttons have no names, so others stand for them.
        clock = ipywidgets.Play(value=1, min=1, max=most, interval=PLAY_MILLISECONDS)
        clock.layout.display = "none"
        ipywidgets.jslink((clock, "value"), (number, "value"))
        words = ("Back", "Next", "Play")
        back, onward, play = (ipywidgets.Button(description=word) for word in words)

        def go(by: int) -> None:
            number.value += by  # it stays between its ends by itself

        def start_or_stop() -> None:
            if number.value == most:
                number.value = clock.value = 1
            clock.playing = not clock.playing

        def look(at: int) -> None:
            step = self.steps[at - 1]
            say(said, f"Step {at} of {most}. {step} (events {step.events})")
            picture.value = as_image(draw(self.steps, at), f"The run up to step {at}. {step}")

        back.on_click(lambda _: go(-1))
        onward.on_click(lambda _: go(1))
        play.on_click(lambda _: start_or_stop())
        clock.observe(lambda it: setattr(play, "description", PLAYING[it["new"]]), "playing")
        number.observe(lambda change: look(change["new"]), "value")
        look(1)
        controls = ipywidgets.HBox([back, onward, play, number, clock])
        box = own(ipywidgets.VBox([picture, said, controls]))
        box.add_class("labkit-tape")
        return box

    def _whole(self) -> dict[str, str]:
        return {"image/png": png(draw(self.steps)), "text/plain": "The run, step by step"}
