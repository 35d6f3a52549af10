"""The approval panel: a model's figures, a prediction to try, and two buttons that decide."""

import html
import operator
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import ipywidgets

from labkit.ask.look import View
from labkit.core.settings import LabError, config_file
from labkit.pipeline.messages import QualityMetrics, Status
from labkit.pipeline.work.deployment import predict
from labkit.views.buttons import say

LOOK_SECONDS = 0.3
WATCH_SECONDS = 8 * 3600.0
SENT_SECONDS = 60.0
# A male shell of 91 mm, as in the README.
SHELL: dict[str, float | str] = {
    **{"sex": "M", "length": 0.455, "diameter": 0.365, "height": 0.095, "whole_weight": 0.514},
    **{"shucked_weight": 0.2245, "viscera_weight": 0.101, "shell_weight": 0.15},
}
# Readable on a projector, and where the focus is can be seen in any theme.
STYLE = """<style>
.labkit-approval { --jp-widgets-font-size: 16px; }
.labkit-approval :focus-visible { outline: 3px solid #1a73e8 !important; outline-offset: 1px; }
</style>"""
CELL = "style='text-align:left;padding:0 1.5em 0 0;overflow-wrap:anywhere'"
MUST_BE = {"at least": operator.ge, "above": operator.gt, "at most": operator.le}
# White on these is easy to read (7 to 1 at least), in the light theme and in the dark one.
GREEN, RED, GREY = "#1b5e20", "#8b1a1a", "#3d3d3d"


class Decidable(Protocol):
    """What the panel needs of a :class:`labkit.run.Run`."""

    id: str

    @property
    def url(self) -> str: ...
    def view(self) -> View: ...
    def approve(self, by: str = "", reason: str = "") -> None: ...
    def reject(self, by: str = "", reason: str = "") -> None: ...


class ApprovalPanel:
    """Shows one request for approval, and decides it.

    A press starts a thread and returns, so the panel answers at once, and a second press finds
    the buttons disabled. Another thread looks at the run, and so notices what was decided
    elsewhere; it ends with the run, after eight hours, or with :meth:`close`. Both threads show
    what they find by setting the widgets' values, which any thread may do. (The kernel handles a
    press when no cell is running.)

    Args:
        run: the run whose request is shown. ``widget`` is the box to display.
    """

    def __init__(self, run: Decidable) -> None:
        self._run = run
        self._view: View | None = None
        self._looking, self._sending, self._trying = (threading.Lock() for _ in range(3))
        self._closed = threading.Event()
        self._facts = ipywidgets.HTML(STYLE)
        self._state, self._tried, self._said = (ipywidgets.HTML() for _ in range(3))
        self._by, self._reason = _field("Your name"), _field("Reason")
        self._try = _button("Try the model", GREY)
        self._approve, self._reject = _button("Approve", GREEN), _button("Reject", RED)
        self._try.on_click(lambda _: self._try_it())
        self._approve.on_click(lambda _: self._press(True))
        self._reject.on_click(lambda _: self._press(False))
        wraps = {"flex_flow": "row wrap"}
        rows = [ipywidgets.HBox([self._try, self._tried], layout=wraps), self._by, self._reason]
        rows.append(ipywidgets.HBox([self._approve, self._reject, self._said], layout=wraps))
        self.widget = ipywidgets.VBox([self._facts, self._state, *rows])
        self.widget.add_class("labkit-approval")
        self._look()
        threading.Thread(target=self._watch, daemon=True).start()

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
        """Look no longer, and take the panel off the page."""
        self._closed.set()
        boxes = [self.widget, *self.widget.children]
        inside = [widget for box in boxes for widget in getattr(box, "children", ())]
        for widget in (*inside, self.widget):
            widget.close()

    def _fill_and_press(self, approved: bool, by: str, reason: str) -> str:
        self._by.value, self._reason.value = by, reason
        if self._approve.disabled:
            say(self._said, f"Not sent. {_text(self._state)}")
        elif sending := self._press(approved):
            sending.join(SENT_SECONDS)
        return _text(self._said)

    def _press(self, approved: bool) -> threading.Thread | None:
        """Send the decision in a thread, unless something is missing.

        The second half of a double click finds the buttons disabled, and is nothing.
        """
        if self._approve.disabled:
            return None
        by, reason = self._by.value.strip(), self._reason.value.strip()
        if not by:
            say(self._said, "Not sent. Write your name first: the table of approvals keeps it.")
        elif not approved and not reason:
            say(self._said, "Not sent. Write a reason first: whoever made the model wants one.")
        elif self._sending.acquire(blocking=False):
            self._enable()
            say(self._said, "Under way …")
            return _in_thread(lambda: self._send(approved, by, reason))
        return None

    def _send(self, approved: bool, by: str, reason: str) -> None:
        try:
            decide = self._run.approve if approved else self._run.reject
            words = _outcome(lambda: decide(by, reason), "Taken.", "Not taken.")
            self._look()
            say(self._said, words)
        finally:
            self._sending.release()
            self._enable()

    def _try_it(self) -> None:
        if not self._trying.acquire(blocking=False):
            return
        self._enable()
        say(self._tried, "Under way …")

        def ask() -> None:
            try:
                status = self._view.status if self._view else self._run.view().status
                say(self._tried, "For a male shell of 91 mm: " + _answers(status))
            except Exception as err:
                say(self._tried, f"No answer. {err}")
            finally:
                self._trying.release()
                self._enable()

        _in_thread(ask)

    def _watch(self) -> None:
        ends = time.monotonic() + WATCH_SECONDS
        while not self._closed.wait(LOOK_SECONDS):
            if self._look():
                return
            if time.monotonic() > ends:
                hours = WATCH_SECONDS / 3600
                say(self._said, f"Looked for {hours:g} hours. To look on, show the panel again.")
                return

    def _look(self) -> bool:
        """Look at the run and show it: one look after the other, so that the last one shows.

        Returns:
            True when the run has ended.
        """
        with self._looking:
            try:
                self._view = self._run.view()
            except Exception as err:  # whatever it is, the panel says it and looks again
                self._view = None
                say(self._state, f"No answer; the panel looks again. {err}")
            else:
                self._facts.value = STYLE + facts(self._run, self._view.status)
                say(self._state, state(self._view))
            self._enable()
            return self._view is not None and self._view.state != "running"

    def _awaited(self) -> bool:
        view = self._view
        return view is not None and view.state == "running" and view.status.awaiting_approval

    def _enable(self) -> None:
        """Enable the buttons that have something to do."""
        self._approve.disabled = self._sending.locked() or not self._awaited()
        self._reject.disabled = self._approve.disabled
        on_dev = self._view is not None and "dev" in self._view.status.deployments
        self._try.disabled = self._trying.locked() or not on_dev


def state(view: View) -> str:
    """Where a request for approval stands, in a sentence or two."""
    status, decision = view.status, view.status.decision
    now = f"The run is over: {view.headline()}."
    if view.state == "running":
        now = f"The run is at {status.current_step}."
    if view.last_failure:
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
        "On dev": html.escape(status.deployments.get("dev", "not yet")),
        "On prod": html.escape(status.deployments.get("prod", "not yet")),
    }
    rows = "".join(
        f"<tr><th scope='row' {CELL}>{name}</th><td {CELL}>{text}</td></tr>"
        for name, text in asks.items()
    )
    figures = figures_table(status.quality_metrics) if status.quality_metrics else ""
    return (
        f"<div style='line-height:1.5'><strong>Approval for prod</strong>"
        f"<table aria-label='Who asks for approval'>{rows}</table>{figures}</div>"
    )


def figures_table(metrics: QualityMetrics) -> str:
    """The model's figures beside the thresholds of ``config/quality_gate.yml``, as a table."""
    try:
        gate = {name: float(value) for name, value in config_file("quality_gate.yml").items()}
        limits = [
            ("accuracy (within 3 rings)", metrics.accuracy, "at least", gate["accuracy"]),
            ("accuracy, to ask for prod", metrics.accuracy, "above", gate["approval_accuracy"]),
            ("MAE in rings", metrics.mae, "at most", gate["mae"]),
            ("R²", metrics.r2_score, "at least", gate["r2_score"]),
        ]
    except (LabError, KeyError, TypeError, ValueError) as err:
        return f"<p>The thresholds cannot be read: {html.escape(str(err))}</p>"
    heads = "".join(
        f"<th scope='col' {CELL}>{h}</th>" for h in ("figure", "is", "must be", "so it")
    )
    rows = "".join(
        f"<tr><th scope='row' {CELL}>{name}</th><td {CELL}>{value:.3f}</td>"
        f"<td {CELL}>{words} {limit:.2f}</td>"
        f"<td {CELL}>{'passes' if MUST_BE[words](value, limit) else 'falls short'}</td></tr>"
        for name, value, words, limit in limits
    )
    return (
        f"<table aria-label='Figures against the thresholds'>"
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _answers(status: Status) -> str:
    """What the model itself says, wherever it is deployed."""
    answers = {env: predict(env, [SHELL], status.model_id)[0] for env in status.deployments}
    return ", ".join(f"{env} answers {rings:.1f} rings" for env, rings in answers.items()) + "."


def _outcome(work: Callable[[], None], done: str, failed: str) -> str:
    try:
        work()
    except Exception as err:
        return f"{failed} {err}"
    return done


def _in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _button(word: str, colour: str) -> ipywidgets.Button:
    style = {"button_color": colour, "text_color": "#ffffff"}
    return ipywidgets.Button(description=word, style=style, layout={"width": "max-content"})


def _field(label: str) -> ipywidgets.Text:
    """A text field that is sent when it is left: letters one by one could come after the press."""
    style, layout = {"description_width": "6em"}, {"width": "min(40em, 98%)"}
    return ipywidgets.Text(description=label, continuous_update=False, style=style, layout=layout)


def _text(line: ipywidgets.HTML) -> str:
    """What :func:`say` made the line say."""
    return html.unescape(line.value.partition(">")[2].removesuffix("</span>"))


def _time(at: str) -> str:
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M:%S} UTC" if at else "an unknown time"
