"""A coroutine is cancelled where it awaits."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker


@activity.defn
async def write(path: str) -> None:
    """Twenty lines, 0.05 s each."""
    part = Path(f"{path}.part")
    try:
        with part.open("w") as file:
            for number in range(20):
                file.write(f"{number}\n")
                activity.heartbeat(number)
                await asyncio.sleep(0.05)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def make_worker(client: Client, **options: Any) -> Worker:
    return Worker(client, graceful_shutdown_timeout=timedelta(seconds=5), **options)
