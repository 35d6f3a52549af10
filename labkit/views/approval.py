"""The approval panel: a model's figures, a prediction to try, and two buttons that decide."""

import asyncio
import html
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from datetime import datetime
from typing import Any, Protocol

import ipywidgets

from labkit.ask.view import View
from labkit.core.links import as_link
from labkit.pipeline.messages import Decision, Status
from labkit.pipeline.work.description import of_run
from labkit.views.buttons import mark, own, say
from labkit.views.figures import CELL, figures_table
from labkit.views.live import close, leave, show_widget

LOOK_SECONDS = 0.3
WATCH_SECONDS = 8 * 3600.0
SENT_SECONDS = 60.0
# Readable on a projector.
STYLE = "<style>.labkit-approval { --jp-widgets-font-size: 16px; }</style>"
# White on these is easy to read (7 to 1 at least), in the light theme and in the dark one.
GREEN, RED, GREY = "#1b5e20", "#8b1a1a", "#3d3d3d"


class Decidable(Protocol):
    """What the panel needs of a :class:`labkit.run.Run`. What is ``async`` runs on its loop."""

    id: str

    @property
    def url(self) -> str: ...
    async def look(self) -> View: ...
    async def decide(self, decision: Decision) -> None: ...
    async def answers(self, **features: float | str) -> dict[str, float]: ...
    def task(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> "Future[Any]": ...


class ApprovalPanel:
    """Shows one request for approval, and decides it.

    All of it runs on the lab's loop, one step after the other: a press is a task there, and so is
    the look at the run that notices what was decided elsewhere; it ends with the run, after eight
    hours, or with :meth:`close`. (The kernel handles a press when no cell is running.)

    Args:
        run: the run whose request is shown. ``widget`` is the box to display.
        by: who decides, if that is known; it can be changed.
    """

    def __init__(self, run: Decidable, by: str = "") -> None:
        self._run = run
        self._view: View | None = None
        self._display = ""
        self._asked = self._seen = 0  # looks: the last one that was begun, and that is shown
        self._facts = ipywidgets.HTML(STYLE)
        self._state, self._tried, self._said = (ipywidgets.HTML() for _ in range(3))
        self._by, self._reason = _field("Your name", by), _field("Reason")
        self._try = _button("Try the model", GREY)
        self._approve, self._reject = _button("Approve", GREEN), _button("Reject", RED)
        self._busy: set[ipywidgets.Button] = set()
        self._try.on_click(lambda _: self._do((self._try,), self._tried, self._ask_model))
        self._approve.on_click(lambda _: self._press(True, clicked=True))
        self._reject.on_click(lambda _: self._press(False, clicked=True))
        wraps = {"flex_flow": "row wrap"}
        rows = [ipywidgets.HBox([self._try, self._tried], layout=wraps), self._by, self._reason]
        rows.append(ipywidgets.HBox([self._approve, self._reject, self._said], layout=wraps))
        self.widget = own(ipywidgets.VBox([self._facts, self._state, *rows]))
        self.widget.add_class("labkit-approval")
        say(self._state, "Looking at the run …")
        self._enable()
        self._watching = run.task(self._watch)

    def show(self) -> None:
        """Display the panel below the cell."""
        kept = f"The panel for the approval of {self._run.id} was here. Show it: run.approval()"
        calls = "run.status(), run.predict('dev', …), run.approve(by=…), run.reject(by=…, reason=…)"
        self._display = show_widget(self.widget, {"text/plain": kept}, self.close, calls)

    def approve(self, by: str, reason: str = "") -> str:
        """Fill in the fields, press Approve, and wait for what comes of it.

        Args:
            by: who approves.
            reason: why; may be left out.

        Returns:
            What the panel says.
        """
        return self._fill_and_press(True, by, reason)

    def reject(self, by: str, reason: str) -> str:
        """As :meth:`approve`, with Reject, which needs a reason."""
        return self._fill_and_press(False, by, reason)

    def close(self) -> None:
        """Look no longer, and take the panel off the page: what it said last stays, as text."""
        self._watching.cancel()
        said = f"Approval of {self._run.id}: {_text(self._state)}"
        leave(self._display, {"text/plain": said})
        close(self.widget)

    def _fill_and_press(self, approved: bool, by: str, reason: str) -> str:
        self._by.value, self._reason.value = by, reason
        self._run.task(self._look).result(SENT_SECONDS)
        if self._approve.disabled:
            say(self._said, f"Not sent. {_text(self._state)}")
        elif sending := self._press(approved):
            sending.result(SENT_SECONDS)
        return _text(self._said)

    def _press(self, approved: bool, clicked: bool = False) -> "Future[None] | None":
        """Send the decision, unless something is missing. It is a task; this returns at once."""
        by, reason = self._by.value.strip(), self._reason.value.strip()
        if self._approve.disabled or self._approve in self._busy:
            return None
        if not by:
            say(self._said, "Not sent. Write your name first: the table of approvals keeps it.")
        elif not approved and not reason:
            say(self._said, "Not sent. Write a reason first: whoever made the model wants one.")
        else:
            send = lambda: self._send(Decision(approved, by, reason), clicked)  # noqa: E731
            return self._do((self._approve, self._reject), self._said, send)
        return None

    def _do(
        self,
        buttons: tuple[ipywidgets.Button, ...],
        line: ipywidgets.HTML,
        work: Callable[[], Awaitable[str]],
    ) -> "Future[None]":
        """Do something on the loop and say how it went. Meanwhile its buttons take no press."""

        async def doing() -> None:
            try:
                words = await work()
            except Exception as err:
                words = str(err)
            say(line, words)
            self._busy -= set(buttons)
            mark(buttons, False)

        self._busy |= set(buttons)
        mark(buttons, True)
        say(line, "Under way …")
        return self._run.task(doing)

    async def _send(self, decision: Decision, clicked: bool) -> str:
        words = "Taken."
        try:
            await self._run.decide(decision)
        except Exception as err:
            words = f"Not taken. {err}"
        if clicked:
            self._try.focus()  # the button that has it will be disabled
        await self._look()
        return words

    async def _ask_model(self) -> str:
        """What the model itself says, wherever it is deployed."""
        try:
            described = of_run(self._view.status.model_id if self._view else "")
            answers = await self._run.answers(**described.sample)
        except Exception as err:
            return f"No answer. {err}"
        unit = described.unit
        each = ", ".join(f"{env} answers {answer:.1f} {unit}" for env, answer in answers.items())
        return f"For {described.example}: {each}."

    async def _watch(self) -> None:
        ends = time.monotonic() + WATCH_SECONDS
        while not await self._look():
            if time.monotonic() > ends:
                hours = WATCH_SECONDS / 3600
                say(self._said, f"Looked for {hours:g} hours. To look on, show the panel again.")
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> bool:
        """Look at the run and show it, unless a later look has been shown meanwhile.

        Returns:
            True when the run has ended.
        """
        self._asked = number = self._asked + 1
        view, trouble = None, ""
        try:
            view = await self._run.look()
        except Exception as err:  # whatever it is, the panel says it and looks again
            trouble = f"No answer; the panel looks again. {err}"
        if number > self._seen:
            self._seen, self._view = number, view
            if view:
                self._facts.value = STYLE + facts(self._run, view.status)
            say(self._state, state(view) if view else trouble)
            self._enable()
        return self._view is not None and self._view.state != "running"

    def _enable(self) -> None:
        """Enable the buttons that have something to do."""
        view = self._view
        awaited = view and view.state == "running" and view.status.awaiting_approval
        self._approve.disabled = self._reject.disabled = not awaited
        self._try.disabled = not (view and "dev" in view.status.deployments)


def state(view: View) -> str:
    """Where a request for approval stands, in a sentence or two."""
    status, decision = view.status, view.status.decision
    now = f"The run is over: {view.headline()}."
    if view.state == "running":
        now = f"The run is at {status.current_step}."
    if view.remark:
        now += f" {view.remark}"
    elif view.last_failure:
        now += f" Its last attempt failed: {view.last_failure}"
    if decision:
        verb = "Approved" if decision.approved else "Rejected"
        who, why = decision.by or "somebody without a name", decision.reason
        return f"{verb} by {who} at {_time(decision.at)}{': ' if why else ''}{why}. {now}"
    if status.awaiting_approval and view.state == "running":
        return (
            f"Waits for a decision since {_time(status.approval_asked)}. "
            f"The request expires at {_time(status.approval_deadline)}."
        )
    return f"No decision is awaited. {now}"


def facts(run: Decidable, status: Status) -> str:
    """Who asks, and the figures against the thresholds, as accessible tables."""
    asks = {
        "Workflow": f"<a href='{html.escape(run.url)}' target='_blank' "
        f"style='text-decoration:underline'>{html.escape(run.id)}</a>",
        "File": html.escape(status.dataset_path),
        "Model": html.escape(status.model_id or "none yet"),
        "On dev": html.escape(as_link(status.deployments.get("dev", "not yet"))),
        "On prod": html.escape(as_link(status.deployments.get("prod", "not yet"))),
    }
    rows = "".join(
        f"<tr><th scope='row' {CELL}>{name}</th><td style='overflow-wrap:anywhere'>{text}</td></tr>"
        for name, text in asks.items()
    )
    figures = figures_table(status.quality_metrics) if status.quality_metrics else ""
    return (
        f"<div style='line-height:1.5'><strong>Approval for prod</strong>"
        f"<table aria-label='Who asks for approval'>{rows}</table>{figures}</div>"
    )


def _button(word: str, colour: str) -> ipywidgets.Button:
    style = {"button_color": colour, "text_color": "#ffffff"}
    return ipywidgets.Button(description=word, style=style, layout={"width": "max-content"})


def _field(label: str, text: str = "") -> ipywidgets.Text:
    """A text field that is sent when it is left: letters one by one could come after the press."""
    style, layout = {"description_width": "6em"}, {"width": "min(40em, 98%)"}
    return ipywidgets.Text(description=label, continuous_update=False, style=style, layout=layout)


def _text(line: ipywidgets.HTML) -> str:
    """What :func:`say` made the line say."""
    return html.unescape(line.value.partition(">")[2].removesuffix("</span>"))


def _time(at: str) -> str:
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M:%S} UTC" if at else "an unknown time"
