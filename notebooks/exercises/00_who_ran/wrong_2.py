"""It names the worker that ran the workflow's code first, and another one may run the activity.

The check says: process was killed: expected worker
"""

from temporalio.client import WorkflowHistory


def who_ran(history: WorkflowHistory) -> str:
    """The worker that ran the activity, as the history names it: "4711@my-laptop"."""
    events = history.to_json_dict()["events"]  # plain dictionaries, as in the Web UI
    for event in events:
        if event["eventType"] == "EVENT_TYPE_WORKFLOW_TASK_STARTED":
            return event["workflowTaskStartedEventAttributes"]["identity"]
    return ""
