"""A process that takes workflow tasks only: python -m tests.workflow.worker ADDRESS QUEUE"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from labkit.pipeline.workflow import MLOpsWorkflow


@contextmanager
def standby(address: str, queue: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that has loaded everything and polls nothing, before a byte comes to its stdin."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, address, queue],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    assert process.stdin and process.stdout
    try:
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def main(address: str, queue: str) -> None:
    client = await Client.connect(address)
    print("standby", flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read, 1)
    second = timedelta(seconds=1)
    async with Worker(
        client,
        task_queue=queue,
        workflows=[MLOpsWorkflow],
        sticky_queue_schedule_to_start_timeout=second,
    ):
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
