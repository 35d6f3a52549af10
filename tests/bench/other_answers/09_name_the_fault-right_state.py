from typing import Any


def name_the_fault(seen: dict[str, Any]) -> str:
    """What is wrong with an open run: one of these five.

    "no worker", "no such activity", "workflow fails", "activity fails", "activity hangs"

    ``seen`` is what temporal workflow describe -o json says of it.
    """
    if seen.get("pendingWorkflowTask", {}).get("attempt") == 1:
        return "no worker"
    if "pendingWorkflowTask" in seen:
        return "workflow fails"
    pending = seen["pendingActivities"][0]
    if pending["state"] == "PENDING_ACTIVITY_STATE_STARTED" and pending["attempt"] == 1:
        return "activity hangs"
    failure = pending["lastFailure"]
    kind = failure.get("applicationFailureInfo", {}).get("type")
    return "no such activity" if kind == "NotFoundError" else "activity fails"
