from temporalio.client import WorkflowHistory


def trained_once(history: WorkflowHistory) -> None:
    """Raises AssertionError unless train_model answered, and at its first attempt."""
    events = history.to_json_dict()["events"]
    (training,) = [e["eventId"] for e in events if is_training(e)] or [None]
    starts = [e.get("activityTaskStartedEventAttributes", {}) for e in events]
    answers = [e.get("activityTaskCompletedEventAttributes", {}) for e in events]
    attempts = [s["attempt"] for s in starts if s and s["scheduledEventId"] == training]
    assert attempts == [1], f"training began {attempts} times"
    assert any(a and a["scheduledEventId"] == training for a in answers), "no answer"


def is_training(event: dict) -> bool:
    scheduled = event.get("activityTaskScheduledEventAttributes")
    return bool(scheduled) and scheduled["activityType"]["name"] == "train_model"
