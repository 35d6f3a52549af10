"""The grace is shorter than the work."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from labkit.bench import work


@activity.defn
def write(path: str) -> None:
    """Twenty lines, 0.05 s each."""
    part = Path(f"{path}.part")
    try:
        with part.open("w") as file:
            for number in range(20):
                file.write(f"{number}\n")
                activity.heartbeat(number)
                work(0.05)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def make_worker(client: Client, **options: Any) -> Worker:
    return Worker(client, graceful_shutdown_timeout=timedelta(milliseconds=100), **options)
