"""The worker: polls the task queue, and runs the workflow's code and the activities."""

import asyncio
import contextvars
import importlib
import logging
import logging.handlers
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar

from temporalio.client import Client
from temporalio.worker import Worker

from labkit.core.settings import LabError, paths, settings
from labkit.faults import LabInterceptor
from labkit.pipeline.activities import ALL
from labkit.pipeline.rollback import RollbackWorkflow, withdraw_model
from labkit.pipeline.workflow import MLOpsWorkflow

T = TypeVar("T")

# Training releases the GIL in compiled code, so threads are enough to keep every core busy.
ACTIVITIES_AT_ONCE = max(4, os.cpu_count() or 1)
CANCEL_SECONDS = 5
GRACE_SECONDS = 2


def load() -> None:
    """Import what training needs, which takes a second: before the first activity needs it."""
    importlib.import_module("labkit.pipeline.work.training")


@asynccontextmanager
async def running_worker(client: Client) -> AsyncIterator[Worker]:
    """Run a worker with the workflow and all activities while the block lasts.

    Raises:
        RuntimeError: the server is down, or this process has a worker on the queue already.
    """
    await asyncio.to_thread(load)
    with ThreadPoolExecutor(ACTIVITIES_AT_ONCE, "activity") as executor:
        worker = Worker(
            client,
            task_queue=settings().temporal_task_queue,
            workflows=[MLOpsWorkflow, RollbackWorkflow],
            activities=[*ALL, withdraw_model],
            activity_executor=executor,
            interceptors=[LabInterceptor()],
            max_concurrent_activities=ACTIVITIES_AT_ONCE,
            # A stop lets activities end, so that it costs no attempt. Training ends at its next
            # checkpoint; what takes longer is cancelled, and tried again by the next worker.
            graceful_shutdown_timeout=timedelta(seconds=GRACE_SECONDS),
            # After a crash, the next worker need not wait ten seconds for the dead one's queue.
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
            # Progress shows twice a second, and a crash loses no more than that.
            max_heartbeat_throttle_interval=timedelta(seconds=0.5),
        )
        async with worker:
            yield worker


class Background:
    """An event loop in a thread of its own, so that a blocked cell blocks nobody else.

    Coroutines run in an empty context: what they print belongs to no cell.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="labkit", daemon=True)
        self._thread.start()
        self._tasks: set[Future[Any]] = set()

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Run a coroutine on the loop, as a task that ends when its future is cancelled.

        Args:
            make: returns the coroutine to run there.

        Raises:
            LabError: the loop was closed.
        """
        if self.closed:
            raise LabError("The lab is stopped. Start it: lab = Lab.start()")
        start = asyncio.run_coroutine_threadsafe
        task: Future[T] = contextvars.Context().run(start, make(), self.loop)
        self._tasks.add(task)  # a loop alone lets its tasks be collected
        task.add_done_callback(self._tasks.discard)
        return task

    def run(self, make: Callable[[], Coroutine[Any, Any, T]], seconds: float = 60) -> T:
        """Run a coroutine on the loop and wait for it, at most so long."""
        return self.submit(make).result(seconds)

    @property
    def closed(self) -> bool:
        return self.loop.is_closed()

    def close(self) -> None:
        """Cancel what still runs on the loop, and end its thread. Harmless twice."""

        async def cancel() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others, timeout=CANCEL_SECONDS)

        if self.closed:
            return
        self.run(cancel)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def log_to_file(name: str) -> None:
    """Send the logs of this process's worker and watcher to ``.lab/logs``, and nowhere else."""
    path = paths().logs / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=2_000_000, backupCount=2, delay=True, encoding="utf-8"
    )
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s %(message)s")
    )
    for logger in (logging.getLogger("temporalio"), logging.getLogger("labkit")):
        for old in list(logger.handlers):
            logger.removeHandler(old)
            old.close()
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
