"""What is known about a run at one moment, in words."""

import textwrap
from dataclasses import dataclass, field
from pathlib import PurePath

from labkit.ask.runs import WORDS
from labkit.pipeline.messages import STEPS, Status

WRAPPED_AT = 100
DAY = 86_400


@dataclass
class View:
    """What is known about a run at one moment. ``state`` is running, or how the run ended.

    ``recorded`` is False while the server has not yet recorded the step that the query names.
    ``held`` says in a word why a run that is open does not go on, and ``remark`` in a sentence.
    ``gap_seconds`` is how long the back-off before the next attempt is in all. ``seconds`` is how
    long the run has run, and ``tried`` how often each activity was, by the ledger.
    """

    status: Status
    state: str
    trees: dict[str, int] = field(default_factory=dict)
    attempt: int = 1
    last_failure: str = ""
    next_attempt_seconds: float | None = None
    gap_seconds: float = 0.0
    recorded: bool = True
    held: str = ""
    remark: str = ""
    seconds: float = 0.0
    tried: dict[str, int] = field(default_factory=dict)

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
        if self.state == "running":
            where = self.status.current_step or "before its first step"
            return f"{where}: {self.held}" if self.held else where
        return f"{WORDS[self.state]}: {self._ending()}"

    def line(self, until: str | None = None) -> str:
        """What :meth:`headline` says, with the file, the seconds, further attempts and figures.

        Args:
            until: the step that somebody waited for: a run that has passed it has reached it.
        """
        days = self.seconds / DAY
        after = f"after {self.seconds:.1f} s" if days < 1 else f"after {days:.0f} days"
        name = PurePath(self.status.dataset_path).name or self.status.workflow_id
        parts = [f"{name}: {self._where(until)} {after}", *self._told()]
        tries = [f"{id} tried {times(number)}" for id, number in self.tried.items() if number > 1]
        line = "; ".join([": ".join(parts), *tries, *filter(None, [self._metrics()])])
        return " ".join(line.split())  # an error may have several

    def _where(self, until: str | None) -> str:
        status = self.status
        if self.state != "running":
            return WORDS[self.state]
        if not status.current_step:
            return "before its first step"
        if self.held:
            return f"{self.held} at {status.current_step}"
        if status.awaiting_approval and until in (None, status.current_step):
            return "waiting for approval"
        reached = until is not None and self.arrived(until)
        return f"reached {until}" if reached else f"at {status.current_step}"

    def _told(self) -> list[str]:
        """Why it does not go on, or how it ended."""
        told = self.remark if self.state == "running" else self._ending()
        return [told] if told else []

    def _ending(self) -> str:
        status = self.status
        detail = status.failure_reason or status.deployment_status.replace("_", " ")
        if model := status.superseded.get("prod"):
            detail += f"; {model} was deployed later, and is current there"
        return detail.removeprefix(f"{WORDS[self.state]} ")

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

    def _metrics(self) -> str:
        if (it := self.status.quality_metrics) is None:
            return ""
        return f"accuracy {it.accuracy:.2f}, MAE {it.mae:.2f} {it.unit}, R² {it.r2_score:.2f}"

    def trouble(self) -> str:
        """Why it does not go on, or why its last attempt failed; empty when all is well."""
        failed = f"The last attempt failed: {self.last_failure}" if self.last_failure else ""
        return (self.remark or failed) if self.state == "running" else ""

    def _figures(self, step: str) -> str:
        if step == "data_preprocessing" and self.status.labels_misaligned:
            return "labels shuffled on purpose"
        if step == "model_training":
            return self._metrics()
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


def times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
