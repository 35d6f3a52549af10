from temporalio.client import WorkflowHistory

SCHEDULED = "activityTaskScheduledEventAttributes"  # {"activityType": {"name": …}, …}
STARTED = "activityTaskStartedEventAttributes"  # {"scheduledEventId": …, "attempt": …, …}
COMPLETED = "activityTaskCompletedEventAttributes"  # {"scheduledEventId": …, "result": …, …}


def trained_once(history: WorkflowHistory) -> None:
    """Raises AssertionError unless train_model answered, and at its first attempt."""
    events = history.to_json_dict()["events"]  # each has an eventId, and one of these at most
    assert events
