"""What the event history says about each activity: the ground on which claims are proved."""

from dataclasses import dataclass
from datetime import datetime

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

_OUTCOMES = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "completed",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "failed",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "timed out",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: "cancelled",
}


@dataclass
class ActivityRecord:
    """One activity in the history. ``attempts`` stays 0 while it runs: the history has no more."""

    activity_id: str
    scheduled: datetime
    attempts: int = 0
    started: datetime | None = None
    ended: datetime | None = None
    outcome: str = "running"

    @property
    def seconds(self) -> float | None:
        """How long the last attempt took."""
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds()


def activities(history: WorkflowHistory) -> list[ActivityRecord]:
    """The activities of a run, in the order in which the workflow asked for them.

    Temporal writes the start of an activity into the history together with its end, so of
    earlier attempts only their number is there.
    """
    records: dict[int, ActivityRecord] = {}
    for event in history.events:
        when = event.event_time.ToDatetime()
        if event.HasField("activity_task_scheduled_event_attributes"):
            scheduled = event.activity_task_scheduled_event_attributes
            records[event.event_id] = ActivityRecord(scheduled.activity_id, when)
        elif event.HasField("activity_task_started_event_attributes"):
            started = event.activity_task_started_event_attributes
            record = records[started.scheduled_event_id]
            record.started, record.attempts = when, started.attempt
        elif event.event_type in _OUTCOMES:
            attributes = getattr(event, event.WhichOneof("attributes") or "")
            record = records[attributes.scheduled_event_id]
            record.ended, record.outcome = when, _OUTCOMES[event.event_type]
    return list(records.values())


def prove(history: WorkflowHistory, activity_id: str, attempts: int = 1) -> str:
    """Assert that an activity was asked for once, tried so often, and completed.

    Args:
        history: the run's event history.
        activity_id: ``preprocess_data``, ``train_model``, ``log_experiment``,
            ``assess_model_quality``, ``deploy_to_dev`` or ``deploy_to_prod``.
        attempts: how many times it was tried.

    Returns:
        The sentence that was proved.

    Raises:
        AssertionError: the history says otherwise; with what it says.
    """
    found = [record for record in activities(history) if record.activity_id == activity_id]
    said = ", ".join(f"{r.outcome} at attempt {r.attempts}" for r in found) or "it is not there"
    assert len(found) == 1, f"{activity_id}: asked for {len(found)} times ({said})"
    (record,) = found
    assert record.outcome == "completed", f"{activity_id}: {said}"
    assert record.attempts == attempts, f"{activity_id}: {said}, not {attempts}"
    return f"{activity_id} was asked for once, tried {times(attempts)}, and completed."


def times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def table(history: WorkflowHistory) -> str:
    """The activities as a text table: attempts, outcome and seconds of the last attempt."""
    rows = [("activity", "attempts", "outcome", "seconds")]
    for record in activities(history):
        seconds = "" if record.seconds is None else f"{record.seconds:.2f}"
        rows.append((record.activity_id, str(record.attempts), record.outcome, seconds))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
