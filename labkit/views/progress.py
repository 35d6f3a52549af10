"""A run on the screen: a widget that lives in Jupyter, plain lines elsewhere."""

import html
from dataclasses import dataclass, field
from typing import Any

from labkit.pipeline.messages import STEPS, Status

WORDS = {
    "completed": "completed",
    "failed": "failed",
    "canceled": "cancelled",
    "terminated": "terminated",
    "timed_out": "timed out",
    "continued_as_new": "continued as a new run",
}


@dataclass
class View:
    """What is known about a run at one moment. ``state`` is running, or how the run ended.

    ``recorded`` is False while the server has not yet recorded the step that the query names.
    """

    status: Status
    state: str
    trees: dict[str, int] = field(default_factory=dict)
    attempt: int = 1
    last_failure: str = ""
    next_attempt_seconds: float | None = None
    recorded: bool = True

    def rows(self) -> list[tuple[str, str, str]]:
        """(step, state in words, remark) for each step, in order."""
        rows = []
        for step in STEPS[:-1]:
            if step in self.status.completed_steps:
                rows.append((step, "done", self._figures(step)))
            elif step == self.status.current_step and self.state == "running":
                waits = self.status.awaiting_approval
                rows.append((step, "waiting" if waits else "running", self._remark()))
            elif step == self.status.current_step:
                rows.append((step, WORDS[self.state], ""))
            else:
                ended = self.state != "running"
                rows.append((step, "not reached" if ended else "to come", ""))
        return rows

    def headline(self) -> str:
        """The run in one line: where it is, or how and why it ended."""
        status = self.status
        where = status.current_step if self.state == "running" else WORDS[self.state]
        detail = status.failure_reason or status.deployment_status.replace("_", " ")
        return f"{where}: {detail.removeprefix(f'{where} ')}" if self.state != "running" else where

    def text(self, live: bool = True) -> str:
        """The whole view as text; without ``live``, nothing that depends on the moment."""
        rows = [
            f"  {step:<24}{word:<12}{remark if live or word == 'done' else ''}".rstrip()
            for step, word, remark in self.rows()
        ]
        return "\n".join([self.headline(), *rows])

    def _figures(self, step: str) -> str:
        metrics = self.status.quality_metrics
        if step == "model_training" and metrics:
            return (
                f"accuracy {metrics.accuracy:.2f}, MAE {metrics.mae:.2f} rings, "
                f"R² {metrics.r2_score:.2f}"
            )
        decision = self.status.decision
        if step == "awaiting_prod_approval" and decision:
            verb = "approved" if decision.approved else "rejected"
            return f"{verb} by {decision.by}" if decision.by else verb
        return "nobody decided" if step == "awaiting_prod_approval" else ""

    def _remark(self) -> str:
        remarks = []
        if self.trees:
            remarks.append(f"{self.trees.get('trees', 0)} of {self.trees.get('of', 0)} trees")
        if self.attempt > 1:
            soon = self.next_attempt_seconds
            remarks.append(f"attempt {self.attempt}" + (f" in {soon:.0f} s" if soon else ""))
        if self.last_failure:
            remarks.append(f"after: {self.last_failure[:100]}")
        return ", ".join(remarks)


class Progress:
    """Shows views as they come, and leaves the last one as plain text.

    The live part is an ipywidgets widget, closed at the end: it stays out of saved notebooks,
    where nothing could bring it to life again.
    """

    def __init__(self) -> None:
        self._widget: Any = None
        self._shown: set[tuple[str, str]] = set()
        if in_jupyter():
            import ipywidgets

            self._widget = ipywidgets.HTML()
            show_widget(self._widget)

    def show(self, view: View) -> None:
        if self._widget is not None:
            self._widget.value = as_html(view)
            return
        for step, word, remark in view.rows():
            if word not in ("to come", "not reached") and (step, word) not in self._shown:
                self._shown.add((step, word))
                print(f"{step}: {word} {remark}".rstrip(), flush=True)

    def finish(self, view: View | None) -> None:
        if self._widget is not None:
            self._widget.close()
        if view and self._widget is not None:
            print(view.text(live=False))
        elif view:
            print(view.headline())


def as_html(view: View) -> str:
    """The view as an accessible table: states in words, announced when they change."""
    rows = "".join(
        f"<tr><th scope='row' style='text-align:left;font-weight:normal'>{step}</th>"
        f"<td style='text-align:left;padding:0 1.5em'>{word}</td>"
        f"<td style='text-align:left'>{html.escape(remark)}</td></tr>"
        for step, word, remark in view.rows()
    )
    return (
        f"<div role='status'><strong>{html.escape(view.headline())}</strong></div>"
        f"<table aria-label='Steps of the pipeline'>{rows}</table>"
    )


def show_widget(widget: Any) -> None:
    """Display a widget, without the text that would stand in for it in a saved notebook."""
    from IPython.display import display

    mime = "application/vnd.jupyter.widget-view+json"
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({mime: view}, raw=True)


def in_jupyter() -> bool:
    """True in a Jupyter kernel; False in a script, a test or the terminal's IPython."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")
