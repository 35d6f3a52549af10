"""Start-to-close counts for every attempt, also for one that is healthy and slow.

The check says: is left alone: it was given up after 1
"""

from datetime import timedelta

from temporalio import activity

from labkit.bench import work


@activity.defn
def train(hangs_at: int) -> None:
    """Thirty steps, three seconds in all. One that is ill hangs at a step."""
    for step in range(30):
        work(3600 if step == hangs_at else 0.1)
        activity.heartbeat(step)


# What the workflow gives to execute_activity.
options = {
    "start_to_close_timeout": timedelta(seconds=1),
    "heartbeat_timeout": timedelta(seconds=1),
}
