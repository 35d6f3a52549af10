"""Heartbeats: while an activity works, Temporal hears from it every second."""

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from temporalio import activity

SECONDS = 1.0


@contextmanager
def heartbeats(*progress: Any) -> Iterator[None]:
    """Send a heartbeat every second, from a thread beside the work, until the block ends.

    Args:
        progress: what each heartbeat carries; the work may change it meanwhile.
    """
    done = threading.Event()
    this_activity = contextvars.copy_context()  # by which the other thread knows whose they are

    def beat() -> None:
        while not done.wait(SECONDS):
            activity.heartbeat(*progress)

    thread = threading.Thread(target=this_activity.run, args=(beat,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
