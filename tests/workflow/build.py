"""A worker process of one build: python -m tests.workflow.build ADDRESS QUEUE BUILD"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio import workflow
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig


@workflow.defn
class Sleeper:
    """Waits for a signal, for 90 days at most."""

    def __init__(self) -> None:
        self.woken = False

    @workflow.run
    async def run(self) -> bool:
        await workflow.wait_condition(lambda: self.woken, timeout=timedelta(days=90))
        return self.woken

    @workflow.signal
    def wake(self) -> None:
        self.woken = True


@contextmanager
def building(address: str, queue: str, build: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that works as one build, of a deployment that is named as the queue is.

    It ends in good order when its stdin is closed.
    """
    command = [sys.executable, "-m", __name__, address, queue, build]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def main(address: str, queue: str, build: str) -> None:
    config = WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(queue, build),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )
    client = await Client.connect(address)
    options = {"workflows": [Sleeper], "deployment_config": config}
    async with Worker(client, task_queue=queue, **options):  # type: ignore[arg-type]
        await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
