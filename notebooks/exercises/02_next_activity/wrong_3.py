"""It forgets the end.

The check says: everything has answered: IndexError
"""

from temporalio.client import WorkflowHistory


def next_activity(history: WorkflowHistory, order: list[str]) -> str | None:
    """The activity that a new worker would run first, had all workers died here.

    ``order`` has the activities as the workflow's code calls them, one after another. None when
    there is nothing left to run.
    """
    events = [event["eventType"] for event in history.to_json_dict()["events"]]
    done = events.count("EVENT_TYPE_ACTIVITY_TASK_COMPLETED")
    return order[done]
