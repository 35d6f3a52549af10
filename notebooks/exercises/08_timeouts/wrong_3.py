"""Heartbeats, and nobody waits for them.

The check says: within a second and a half: no other attempt came
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
    "start_to_close_timeout": timedelta(hours=1),
}
