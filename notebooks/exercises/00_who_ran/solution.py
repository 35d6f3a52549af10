from temporalio.client import WorkflowHistory


def who_ran(history: WorkflowHistory) -> str:
    """The worker that ran the activity, as the history names it: "4711@my-laptop"."""
    events = history.to_json_dict()["events"]  # plain dictionaries, as in the Web UI
    for event in events:
        if event["eventType"] == "EVENT_TYPE_ACTIVITY_TASK_STARTED":
            return event["activityTaskStartedEventAttributes"]["identity"]
    return ""
