"""It writes under another name, and leaves that file behind.

The check says: nothing is left: expected no file, got ['lines.txt.part']
"""

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
    if True:
        with part.open("w") as file:
            for number in range(20):
                file.write(f"{number}\n")
                activity.heartbeat(number)
                work(0.05)
        part.replace(path)


def make_worker(client: Client, **options: Any) -> Worker:
    return Worker(client, graceful_shutdown_timeout=timedelta(seconds=5), **options)
