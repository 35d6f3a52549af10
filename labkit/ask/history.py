"""What the event history says about each activity: the ground on which claims are proved."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

from labkit.ask.view import times
from labkit.core.journal import Attempt

_OUTCOMES = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "completed",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "failed",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "timed out",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: "cancelled",
}

# The last event of a run that has ended.
_ENDS = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
}


@dataclass
class ActivityRecord:
    """One asking for an activity. ``attempts`` stays 0 while it runs: the history has no more."""

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
        when = event.event_time.ToDatetime(UTC)
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


def count_events(history: WorkflowHistory) -> Counter[str]:
    """How many events there are of each type, by the names that the Web UI shows.

    Such as ``WorkflowExecutionSignaled``, ``TimerStarted`` or ``ActivityTaskScheduled``.
    """
    names = (EventType.Name(event.event_type) for event in history.events)
    return Counter(name.removeprefix("EVENT_TYPE_").title().replace("_", "") for name in names)


def timers(history: WorkflowHistory) -> list[timedelta]:
    """How long each timer was set for, in order."""
    return [
        event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
        for event in history.events
        if event.HasField("timer_started_event_attributes")
    ]


def has_ended(history: WorkflowHistory) -> bool:
    return history.events[-1].event_type in _ENDS


def own_clock(history: WorkflowHistory, now: datetime) -> datetime:
    """What a workflow's clock says: it stands when the run has ended, and may have been moved."""
    if has_ended(history):
        return history.events[-1].event_time.ToDatetime(UTC)
    for event in history.events:
        if event.HasField("workflow_execution_time_skipping_transitioned_event_attributes"):
            moved = event.workflow_execution_time_skipping_transitioned_event_attributes
            now += moved.target_time.ToDatetime(UTC) - event.event_time.ToDatetime(UTC)
    return now


def prove(
    history: WorkflowHistory,
    ledger: list[Attempt],
    activity_id: str,
    attempts: int = 1,
    gaps: Sequence[float] = (),
    outcome: str = "completed",
) -> str:
    """Assert what a run says about one activity.

    There are two witnesses. The event history knows how it ended and how many attempts there were;
    a reset sets that number back. The workers' ledger has each attempt, and the gaps between them.

    Args:
        history: the run's event history.
        ledger: the attempts that the workers wrote down for the run.
        activity_id: ``preprocess_data``, ``train_model``, ``log_experiment``,
            ``assess_model_quality``, ``deploy_to_dev`` or ``deploy_to_prod``.
        attempts: how many times it was tried, by the event history.
        gaps: the seconds that its retry policy promises between attempts. Each real gap must be
            at least that, and at most a second and a fifth longer.
        outcome: completed, failed, timed out or cancelled.

    Returns:
        The sentence that was proved; with what the ledger says.

    Raises:
        AssertionError: the run says otherwise; with what it says.
    """
    found = [record for record in activities(history) if record.activity_id == activity_id]
    said = ", ".join(f"{r.outcome} at attempt {r.attempts}" for r in found) or "it is not there"
    # More than one asking is right only where the platform failed at those before the last.
    anew = found and {r.outcome for r in found[:-1]} <= {"timed out", "failed"}
    assert anew, f"{activity_id}: asked for {len(found)} times ({said})"
    assert found[-1].outcome == outcome, f"{activity_id}: {said}"
    assert sum(r.attempts for r in found) == attempts, f"{activity_id}: {said}, not {attempts}"
    sentence = _both_witnesses(found, [a for a in ledger if a.activity_id == activity_id])
    if not gaps:
        return sentence
    real = real_gaps(ledger, activity_id)
    assert len(real) == len(gaps), f"{activity_id}: {len(real)} gaps, not {len(gaps)}: {real}"
    for promised, happened in zip(gaps, real, strict=True):
        fits = promised - 0.05 <= happened <= promised * 1.2 + 1
        assert fits, f"{activity_id}: a gap of {happened:.2f} s, where {promised:g} s was promised"
    return f"{sentence} Its gaps were {' s, '.join(f'{gap:g}' for gap in gaps)} s, as promised."


def _both_witnesses(found: list[ActivityRecord], ledger: list[Attempt]) -> str:
    """What the event history says of one activity, and whether the ledger says the same."""
    id, outcome, attempts = found[0].activity_id, found[-1].outcome, sum(r.attempts for r in found)
    asked = f"{id} was asked for {times(len(found))}"
    if len(ledger) == attempts:
        return f"{asked}, tried {times(attempts)}, and {outcome}; the ledger says the same."
    number = f"{attempts} attempt{'s' if attempts != 1 else ''}"
    sentence = f"{asked}, and {outcome}; the event history has {number}, the ledger {len(ledger)}"
    reset = sum(attempt.number == 1 for attempt in ledger) > len(found)
    return f"{sentence}, because a reset began the count again." if reset else f"{sentence}."


def real_gaps(ledger: list[Attempt], activity_id: str) -> list[float]:
    """Seconds from the end of each attempt to the start of the next, as the workers saw it."""
    ours = [attempt for attempt in ledger if attempt.activity_id == activity_id]
    return [
        (after.started - before.ended).total_seconds()
        for before, after in itertools.pairwise(ours)
        if before.ended
    ]


def promised_gaps(history: WorkflowHistory, activity_id: str, number: int) -> list[float]:
    """The first gaps, in seconds, that the retry policy of an activity in the history promises."""
    scheduled = next(
        event.activity_task_scheduled_event_attributes
        for event in history.events
        if event.activity_task_scheduled_event_attributes.activity_id == activity_id
    )
    policy = scheduled.retry_policy
    first = policy.initial_interval.ToTimedelta().total_seconds()
    longest = policy.maximum_interval.ToTimedelta().total_seconds()
    return [min(first * policy.backoff_coefficient**n, longest) for n in range(number)]


def backoff(history: WorkflowHistory, ledger: list[Attempt], activity_id: str) -> str:
    """The gaps that the retry policy promised beside those that happened, as a text table."""
    real = real_gaps(ledger, activity_id)
    promised = promised_gaps(history, activity_id, len(real))
    lines = [f"{'gap':<5}{'promised':>10}{'happened':>12}"]
    for number, (wanted, happened) in enumerate(zip(promised, real, strict=True), start=1):
        lines.append(f"{number:<5}{f'{wanted:.2f} s':>10}{f'{happened:.2f} s':>12}")
    return "\n".join(lines)


def table(history: WorkflowHistory) -> str:
    """The activities as a text table: attempts, outcome and seconds of the last attempt."""
    rows = [("activity", "attempts", "outcome", "seconds")]
    for record in activities(history):
        seconds = "" if record.seconds is None else f"{record.seconds:.2f}"
        rows.append((record.activity_id, str(record.attempts), record.outcome, seconds))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
