from temporalio.client import WorkflowHistory

SCHEDULED = "activityTaskScheduledEventAttributes"  # {"activityType": {"name": …}, …}
STARTED = "activityTaskStartedEventAttributes"  # {"scheduledEventId": …, "attempt": …, …}
COMPLETED = "activityTaskCompletedEventAttributes"  # {"scheduledEventId": …, "result": …, …}


def trained_once(history: WorkflowHistory) -> None:
    """Raises AssertionError unless train_model answered, and at its first attempt."""
    events = history.to_json_dict()["events"]  # each has an eventId, and one of these at most
    named = [(e["eventId"], e[SCHEDULED]["activityType"]["name"]) for e in events if SCHEDULED in e]
    ids = [id for id, name in named if name == "train_model"]
    starts = [e[STARTED] for e in events if STARTED in e]
    answers = [e[COMPLETED] for e in events if COMPLETED in e]
    attempts = [start["attempt"] for start in starts if start["scheduledEventId"] in ids]
    assert attempts == [1], f"the attempts of training that ended: {attempts}"
    assert any(answer["scheduledEventId"] in ids for answer in answers), "training never answered"
