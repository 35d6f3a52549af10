from typing import Any


def name_the_fault(seen: dict[str, Any]) -> str:
    """What is wrong with an open run: one of these five.

    "no worker", "no such activity", "workflow fails", "activity fails", "activity hangs"

    ``seen`` is what temporal workflow describe -o json says of it.
    """
    task = seen.get("pendingWorkflowTask", {})
    if task:
        return "workflow fails" if task["attempt"] > 1 else "no worker"
    (pending,) = seen["pendingActivities"]
    failure = pending.get("lastFailure")
    if not failure:
        return "activity hangs"
    missing = "is not registered on this worker" in failure["message"]
    return "no such activity" if missing else "activity fails"
