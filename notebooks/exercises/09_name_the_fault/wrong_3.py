"""It goes by the attempt, which is 1 for what hangs, and also for what waits for a worker.

The check says: a run with: no worker: KeyError: 'pendingActivities'
"""

from typing import Any


def name_the_fault(seen: dict[str, Any]) -> str:
    """What is wrong with an open run: one of these five.

    "no worker", "no such activity", "workflow fails", "activity fails", "activity hangs"

    ``seen`` is what temporal workflow describe -o json says of it.
    """
    (pending,) = seen["pendingActivities"]
    if pending["attempt"] == 1:
        return "activity hangs"
    missing = "is not registered on this worker" in pending["lastFailure"]["message"]
    return "no such activity" if missing else "activity fails"
