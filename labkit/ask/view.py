"""What is known about a run at one moment, in words."""

import textwrap
from dataclasses import dataclass, field

from labkit.ask.runs import WORDS
from labkit.pipeline.messages import STEPS, Status

WRAPPED_AT = 100


@dataclass
class View:
    """What is known about a run at one moment. ``state`` is running, or how the run ended.

    ``recorded`` is False while the server has not yet recorded the step that the query names.
    ``held`` says in a word why a run that is open does not go on, and ``remark`` in a sentence.
    """

    status: Status
    state: str
    trees: dict[str, int] = field(default_factory=dict)
    attempt: int = 1
    last_failure: str = ""
    next_attempt_seconds: float | None = None
    recorded: bool = True
    held: str = ""
    remark: str = ""

    def rows(self) -> list[tuple[str, str, str]]:
        """(step, state in words, remark) for each step, in order."""
        rows = []
        for step in STEPS[:-1]:
            if step in self.status.completed_steps:
                rows.append((step, "done", self._figures(step)))
            elif step == self.status.current_step and self.state == "running":
                waits = "waiting" if self.status.awaiting_approval else "running"
                rows.append((step, self.held or waits, self._remark()))
            elif step == self.status.current_step:
                rows.append((step, WORDS[self.state], ""))
            else:
                ended = self.state != "running"
                rows.append((step, "not reached" if ended else "to come", ""))
        return rows

    def headline(self) -> str:
        """The run in one line: where it is, or how and why it ended."""
        status = self.status
        if self.state == "running":
            where = status.current_step or "before its first step"
            return f"{where}: {self.held}" if self.held else where
        where = WORDS[self.state]
        detail = status.failure_reason or status.deployment_status.replace("_", " ")
        if model := status.superseded.get("prod"):
            detail += f"; {model} was deployed later, and is current there"
        return f"{where}: {detail.removeprefix(f'{where} ')}"

    def text(self, live: bool = True) -> str:
        """The whole view as text; without ``live``, nothing that depends on the moment."""
        lines = [self.headline()]
        for step, word, remark in self.rows():
            told = textwrap.wrap(remark if live or word == "done" else "", WRAPPED_AT - 38)
            lines.append(f"  {step:<24}{word:<12}{told[0] if told else ''}".rstrip())
            lines += [f"{'':<38}{more}" for more in told[1:]]
        return "\n".join(lines)

    def arrived(self, until: str | None) -> bool:
        """True when the run has reached a step; its end when no step is named."""
        if until is None:
            return self.state != "running"
        if not self.recorded:
            return False
        if until == "completed":
            return self.state == "completed"
        return until == self.status.current_step or until in self.status.completed_steps

    def _figures(self, step: str) -> str:
        metrics = self.status.quality_metrics
        if step == "data_preprocessing" and self.status.labels_misaligned:
            return "labels shuffled on purpose"
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
        if self.remark:
            return self.remark
        remarks = []
        if self.trees:
            remarks.append(f"{self.trees.get('trees', 0)} of {self.trees.get('of', 0)} trees")
        if self.attempt > 1:
            soon = self.next_attempt_seconds
            remarks.append(f"attempt {self.attempt}" + (f" in {soon:.0f} s" if soon else ""))
        if self.last_failure:
            remarks.append(f"after: {self.last_failure}")
        return ", ".join(remarks)
