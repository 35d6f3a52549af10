"""It returns an answer where an assertion was asked for.

The check says: and nothing was raised: it returned False
"""

from temporalio.client import WorkflowHistory


def trained_once(history: WorkflowHistory) -> bool:
    """Raises AssertionError unless train_model answered, and at its first attempt."""
    events = history.to_json_dict()["events"]
    scheduled = [e.get("activityTaskScheduledEventAttributes") for e in events]
    names = [s["activityType"]["name"] for s in scheduled if s]
    return names.count("train_model") == 1
