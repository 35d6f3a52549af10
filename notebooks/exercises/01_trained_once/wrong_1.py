"""A retry makes no event of its own, so counting what was scheduled misses it.

The check says: training was tried twice: expected an AssertionError, and nothing was raised
"""

from temporalio.client import WorkflowHistory


def trained_once(history: WorkflowHistory) -> None:
    """Raises AssertionError unless train_model answered, and at its first attempt."""
    events = history.to_json_dict()["events"]
    scheduled = [e.get("activityTaskScheduledEventAttributes") for e in events]
    names = [s["activityType"]["name"] for s in scheduled if s]
    assert names.count("train_model") == 1
