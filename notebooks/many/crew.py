"""The workers, the files and the schedules of notebook 11; all of it is gone after ``rest``."""

import asyncio
import contextvars
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client, Schedule, ScheduleHandle, WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import Worker

from labkit.ask.client import address
from labkit.datasets import draw
from labkit.services.temporal import cli
from many import activities as acts

ALL = [acts.new_files, acts.fit, acts.grow, acts.remove_models, acts.note]
FIRST_NIGHT = date(2026, 3, 2)
LOOK_SECONDS, LIMIT_SECONDS = 0.1, 60
ROWS, THREADS = 60, 8


class Crew:
    """Workers on this notebook's own event loop, a folder for files, and schedules."""

    def __init__(self, client: Client) -> None:
        self._client, self._end = client, ExitStack()
        self._workers: dict[str, tuple[Worker, asyncio.Task[None]]] = {}
        self._schedules: list[str] = []
        self._folder = Path(self._end.enter_context(tempfile.TemporaryDirectory()))
        self._pool = self._end.enter_context(ThreadPoolExecutor(THREADS))

    def folder(self, nights: int = 0) -> Path:
        """A new folder, with a file for each of so many nights, one night after another."""
        folder = self._folder / uuid4().hex[:8]
        folder.mkdir()
        for number in range(nights):
            night = FIRST_NIGHT + timedelta(days=number)
            (folder / f"{night}.csv").write_bytes(draw(ROWS, seed=number))
        return folder

    async def work(
        self,
        queue: str,
        workflows: Sequence[type] = (),
        activities: Sequence[Callable[..., Any]] = (*ALL,),
        **options: Any,
    ) -> None:
        """Start a worker, in place of the one that polls the queue now."""
        await self.stop(queue)
        worker = Worker(
            self._client,
            task_queue=queue,
            workflows=workflows,
            activities=activities,
            activity_executor=self._pool,
            **options,
        )
        # In a context of its own: what it prints later is no output of this cell.
        task = asyncio.get_running_loop().create_task(worker.run(), context=contextvars.Context())
        self._workers[queue] = worker, task

    async def schedule(self, id: str, schedule: Schedule) -> ScheduleHandle:
        """Create a schedule, in place of the one of that name."""
        handle = self._client.get_schedule_handle(id)
        with suppress(RPCError):  # there is none
            await handle.delete()
        self._schedules.append(id)
        return await self._client.create_schedule(id, schedule)

    async def last(self, handle: ScheduleHandle) -> WorkflowHandle[Any, Any]:
        """The run that the schedule started last; waits for the first."""

        async def started() -> Any:
            return (await handle.describe()).info.recent_actions

        action = (await self.until(started))[-1].action
        return self._client.get_workflow_handle(
            action.workflow_id, run_id=action.first_execution_run_id
        )

    async def tally(self, handle: ScheduleHandle) -> Counter[str]:
        """Wait until all that is due has been dealt with, and say what became of it."""
        since = (await handle.describe()).info.created_at.isoformat()
        query = f"TemporalScheduledById = '{handle.id}' AND StartTime >= '{since}'"
        before: Counter[str] = Counter()
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                seen = await handle.describe()
                waiting = seen.raw_description.info.buffer_size
                runs = [run async for run in self._client.list_workflows(query)]
                found = Counter(run.status.name.lower() for run in runs if run.status)
                found["skipped"] = seen.info.num_actions_skipped_overlap
                listed = len(runs) == seen.info.num_actions > 0
                if listed and found == before and not waiting and not found["running"]:
                    return found
                before = found
                await asyncio.sleep(LOOK_SECONDS)

    async def until(self, ready: Callable[[], Awaitable[Any]]) -> Any:
        """Ask until the answer is yes, and return it.

        Raises:
            TimeoutError: it is not within a minute.
        """
        async with asyncio.timeout(LIMIT_SECONDS):
            while not (answer := await ready()):
                await asyncio.sleep(LOOK_SECONDS)
            return answer

    async def temporal(self, words: str) -> str:
        """Run the command line of Temporal, and return what it says."""
        command = [cli(), *words.split(), "--address", address()]
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
        said, _ = await process.communicate()
        return said.decode().strip()

    async def rest(self) -> None:
        """End every worker, and delete every schedule and file. Harmless twice."""
        for queue in list(self._workers):
            await self.stop(queue)
        for id in self._schedules:
            with suppress(RPCError):  # it is gone
                await self._client.get_schedule_handle(id).delete()
        self._end.close()
        print("The crew has gone home: no worker, no schedule and no file is left.")

    async def piled_up(self, queue: str, number: int) -> None:
        """Wait until so many activities wait in a queue that nobody polls."""
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            report_stats=True,
        )

        async def enough() -> bool:
            answer = await self._client.workflow_service.describe_task_queue(request)
            return answer.stats.approximate_backlog_count >= number

        await self.until(enough)

    async def let_pass(self, seconds: float) -> None:
        """Let time pass, so that something is due meanwhile."""
        await asyncio.sleep(seconds)

    async def stop(self, queue: str) -> None:
        """End the worker of a queue. Harmless without one."""
        if queue in self._workers:
            worker, task = self._workers.pop(queue)
            await worker.shutdown()
            await task
