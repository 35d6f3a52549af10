"""A retry makes no event of its own, so counting what was scheduled misses it.

The check says: training was tried twice: expected an AssertionError, and nothing was raised
"""

from temporalio.client import WorkflowHistory

SCHEDULED = "activityTaskScheduledEventAttributes"  # {"activityType": {"name": …}, …}
STARTED = "activityTaskStartedEventAttributes"  # {"scheduledEventId": …, "attempt": …, …}
COMPLETED = "activityTaskCompletedEventAttributes"  # {"scheduledEventId": …, "result": …, …}


def trained_once(history: WorkflowHistory) -> None:
    """Raises AssertionError unless train_model answered, and at its first attempt."""
    events = history.to_json_dict()["events"]  # each has an eventId, and one of these at most
    names = [e[SCHEDULED]["activityType"]["name"] for e in events if SCHEDULED in e]
    assert names.count("train_model") == 1
