"""It returns an answer where an assertion was asked for.

The check says: and nothing was raised: it returned False
"""

from temporalio.client import WorkflowHistory

SCHEDULED = "activityTaskScheduledEventAttributes"  # {"activityType": {"name": …}, …}
STARTED = "activityTaskStartedEventAttributes"  # {"scheduledEventId": …, "attempt": …, …}
COMPLETED = "activityTaskCompletedEventAttributes"  # {"scheduledEventId": …, "result": …, …}


def trained_once(history: WorkflowHistory) -> bool:
    """Raises AssertionError unless train_model answered, and at its first attempt."""
    events = history.to_json_dict()["events"]  # each has an eventId, and one of these at most
    names = [e[SCHEDULED]["activityType"]["name"] for e in events if SCHEDULED in e]
    return names.count("train_model") == 1
