"""It looks at attempts only, so a run in which nothing was trained passes.

The check says: nothing was trained: expected an AssertionError, and nothing was raised
"""

from temporalio.client import WorkflowHistory


def trained_once(history: WorkflowHistory) -> None:
    """Raises AssertionError unless train_model answered, and at its first attempt."""
    events = history.to_json_dict()["events"]
    starts = [e.get("activityTaskStartedEventAttributes") for e in events]
    assert all(start["attempt"] == 1 for start in starts if start)
