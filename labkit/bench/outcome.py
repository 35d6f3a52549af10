"""What came of a try: its result, its history, and what the outside world saw."""

from dataclasses import dataclass, field
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

from labkit.bench.ledger import Ledger
from labkit.bench.words import Off, quoted


@dataclass
class Try:
    """What happened.

    Attributes:
        result: what the workflow returned.
        failure: why the workflow failed, or why its worker could not work.
        running: it had not ended when the time was up; ``why`` says what it waited for.
        answer: what ``meanwhile`` returned.
        history: the event history; None when the run never began.
        ledger: what the outside world saw.
        killed: when the worker was signalled, in seconds after the beginning.
        hung: an activity still occupies a thread of this kernel; it cannot be ended.
    """

    id: str
    result: Any = None
    failure: BaseException | None = None
    running: bool = True
    why: str = ""
    answer: Any = None
    history: WorkflowHistory | None = None
    ledger: Ledger = field(default_factory=Ledger)
    killed: list[float] = field(default_factory=list)
    hung: bool = False
    seconds: float = 0.0

    def ended(self) -> "Try":
        """This try, if its workflow ended well.

        Raises:
            Off: it failed, or had not ended in time, with the reason.
        """
        if self.failure:
            raise Off(f"the run failed: {quoted(self.failure)}")
        if self.running:
            raise Off(f"the run had not ended: {self.why}")
        return self

    def effects(self, name: str = "") -> list[Any]:
        """The values that activities noted with ``effect``, in order."""
        return self.ledger.effects(name)

    def attempts(self, name: str) -> list[float]:
        """When each attempt began, in seconds after the first, by the run's own clock."""
        return self.ledger.attempts(name)

    def events(self) -> list[str]:
        """The types of all events of the history, such as ``ActivityTaskScheduled``."""
        events = self.history.events if self.history else []
        names = [EventType.Name(event.event_type) for event in events]
        return ["".join(map(str.capitalize, name.split("_")[2:])) for name in names]

    def scheduled(self) -> list[str]:
        """The names of the activities that the history scheduled, in order."""
        return [
            event.activity_task_scheduled_event_attributes.activity_type.name
            for event in (self.history.events if self.history else [])
            if event.HasField("activity_task_scheduled_event_attributes")
        ]

    def __str__(self) -> str:
        if self.failure:
            return f"failed after {self.seconds:.1f} s: {quoted(self.failure)}"
        if self.running:
            return f"had not ended after {self.seconds:.1f} s: {self.why}"
        return f"returned {self.result!r} after {self.seconds:.1f} s"

    __repr__ = __str__
