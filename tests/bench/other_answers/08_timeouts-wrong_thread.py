"""A thread sends the heartbeats, and goes on when the work hangs."""

import contextvars
import threading
from datetime import timedelta

from temporalio import activity

from labkit.bench import work


def beat() -> None:
    while True:
        activity.heartbeat()
        work(0.1)


@activity.defn
def train(hangs_at: int) -> None:
    """Thirty steps, three seconds in all. One that is ill hangs at a step."""
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=[beat], daemon=True).start()
    for step in range(30):
        work(3600 if step == hangs_at else 0.1)


# What the workflow gives to execute_activity.
options = {
    "start_to_close_timeout": timedelta(hours=1),
    "heartbeat_timeout": timedelta(seconds=1),
}
