"""It looks at attempts only, so a run in which nothing was trained passes.

The check says: nothing was trained: expected an AssertionError, and nothing was raised
"""

from temporalio.client import WorkflowHistory

SCHEDULED = "activityTaskScheduledEventAttributes"  # {"activityType": {"name": …}, …}
STARTED = "activityTaskStartedEventAttributes"  # {"scheduledEventId": …, "attempt": …, …}
COMPLETED = "activityTaskCompletedEventAttributes"  # {"scheduledEventId": …, "result": …, …}


def trained_once(history: WorkflowHistory) -> None:
    """Raises AssertionError unless train_model answered, and at its first attempt."""
    events = history.to_json_dict()["events"]  # each has an eventId, and one of these at most
    assert all(e[STARTED]["attempt"] == 1 for e in events if STARTED in e)
