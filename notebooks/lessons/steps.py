"""A run as steps, read from its event history: who did what, and what was replayed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from temporalio.client import WorkflowHistory

CLIENT, SERVER, WORKFLOW, ACTIVITY = "client", "server", "workflow code", "activity code"
# The commands that answer a workflow task, in words; other kinds of events speak for themselves.
ASKS = {
    "ACTIVITY_TASK_SCHEDULED": "run {activityType}",
    "TIMER_STARTED": "start a timer",
    "TIMER_CANCELED": "cancel the timer",
    "MARKER_RECORDED": "record a marker",
    "WORKFLOW_EXECUTION_COMPLETED": "end the run with its result",
    "WORKFLOW_EXECUTION_FAILED": "end the run with its failure",
}
OUTCOMES = {
    "ACTIVITY_TASK_COMPLETED": "it answers",
    "ACTIVITY_TASK_FAILED": "it fails",
    "ACTIVITY_TASK_TIMED_OUT": "it is too late",
    "ACTIVITY_TASK_CANCELED": "it is cancelled",
}


@dataclass(frozen=True)
class Step:
    """What one part did, and the events that tell of it.

    Attributes:
        part: one of the four above.
        replayed: the last event that this worker replayed first; 0 when there was no replay.
    """

    part: str
    who: str
    first: int
    last: int
    name: str
    says: str
    replayed: int = 0

    @property
    def events(self) -> str:
        return f"{self.first} to {self.last}" if self.last > self.first else str(self.first)

    def __str__(self) -> str:
        return f"{self.who}: {self.says}"


def steps(history: WorkflowHistory) -> list[Step]:
    """The steps of a run, in the order in which the server wrote them down.

    A worker keeps a run in memory between workflow tasks. One that has not done the task before
    has nothing there, and replays the history. (So does one that had to forget the run. The history
    does not tell of that.)
    """
    return list(_steps([_Event(event) for event in history.to_json_dict()["events"]]))


class _Event:
    def __init__(self, event: dict[str, Any]) -> None:
        self.id, self.kind = int(event["eventId"]), event["eventType"].removeprefix("EVENT_TYPE_")
        found = (value for key, value in event.items() if key.endswith("EventAttributes"))
        self.said: dict[str, Any] = next(found, {})

    def number(self, name: str) -> int:
        return int(self.said.get(name, 0))

    def named(self, name: str) -> str:
        return str(self.said[name]["name"])

    def words(self) -> str:
        names = {key: v.get("name") for key, v in self.said.items() if isinstance(v, dict)}
        return ASKS.get(self.kind, self.kind.replace("_", " ").lower()).format_map(names)


def _steps(events: list[_Event]) -> Iterator[Step]:
    by_id, worker, known = {event.id: event for event in events}, "", 0
    for event in events:
        if event.kind == "WORKFLOW_EXECUTION_STARTED":
            says = f"starts {event.named('workflowType')}"
            yield Step(CLIENT, "client", event.id, event.id, "start", says)
        elif event.kind == "WORKFLOW_EXECUTION_SIGNALED":
            name = event.said["signalName"]
            yield Step(CLIENT, "client", event.id, event.id, name, f"sends the signal {name}")
        elif event.kind == "TIMER_FIRED":
            yield Step(SERVER, "server", event.id, event.id, "timer", "the timer has run out")
        elif event.kind == "WORKFLOW_TASK_COMPLETED":
            asked = [e for e in events if e.number("workflowTaskCompletedEventId") == event.id]
            yield (step := _workflow_task(event, asked, worker, known))
            worker, known = step.who, step.last
        elif event.kind in OUTCOMES:
            yield _activity_task(event, by_id)


def _workflow_task(event: _Event, asked: list[_Event], worker: str, known: int) -> Step:
    """``worker`` did the task before, whose last event was ``known``."""
    who = event.said["identity"]
    replayed = known if who != worker else 0
    how = "goes on where the code stood" if known else "runs the code from the top"
    if replayed:
        how = f"runs the code from the top, replaying events 1 to {known}"
    commands = ", ".join(e.words() for e in asked)
    last = max([event.id, *(e.id for e in asked)])
    says = f"{how}; asks to {commands}" if commands else f"{how}; waits"
    return Step(WORKFLOW, who, event.number("startedEventId"), last, who, says, replayed)


def _activity_task(event: _Event, by_id: dict[int, _Event]) -> Step:
    name = by_id[event.number("scheduledEventId")].named("activityType")
    started = by_id.get(event.number("startedEventId"), event)
    attempt = started.number("attempt")
    tried = f" at attempt {attempt}" if attempt > 1 else ""
    says = f"runs the activity {name}: {OUTCOMES[event.kind]}{tried}"
    return Step(ACTIVITY, started.said.get("identity", "server"), started.id, event.id, name, says)
