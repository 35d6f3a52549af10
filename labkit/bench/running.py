"""A try while it lasts: one part directs from the cell's thread, one talks to the server."""

import asyncio
import queue
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.converter import DataConverter
from temporalio.testing import TimeSkipper
from temporalio.worker import Worker

from labkit.ask.client import address
from labkit.bench import ledger as books
from labkit.bench.ledger import Ledger
from labkit.bench.loop import Call, Loop, with_client
from labkit.bench.outcome import Try
from labkit.bench.process import WorkerFailed, WorkerProcess
from labkit.bench.tryworker import Fault, address_of, make_worker
from labkit.bench.words import unfinished
from labkit.core.paths import LabError

LOOK_SECONDS = 0.01
STOP_SECONDS = 1.0
LATE_SECONDS = 3.0  # for the server's answers at the end of a try
START_SECONDS = 20.0

Signal = Literal["SIGKILL", "SIGTERM", "SIGSTOP"]
Moment = Callable[[Ledger], Any] | int
Meanwhile = Callable[[Client, WorkflowHandle], Awaitable[Any]]


@dataclass(frozen=True)
class Plan:
    """What to try; see :func:`try_out`."""

    workflow: type
    args: tuple[Any, ...]
    activities: Sequence[Callable[..., Any]]
    others: Sequence[type]
    process: bool
    kill_at: list[Moment]
    how: Signal
    worker: Callable[..., Worker] | None
    fault: dict[str, Fault]
    skip: timedelta | None
    until: Callable[[Ledger], Any] | None
    meanwhile: Meanwhile | None
    hash_seed: int | None
    data_converter: DataConverter | None
    seconds: float

    @property
    def workflows(self) -> list[type]:
        return [self.workflow, *self.others]

    def make_worker(self, client: Client, queue: str) -> Worker:
        return make_worker(
            client,
            queue,
            self.workflows,
            self.activities,
            self.fault,
            self.worker or Worker,
        )

    def for_process(self, queue: str, book: Path) -> dict[str, Any]:
        """What a worker process is told."""
        return {
            "queue": queue,
            "book": str(book),
            "address": address(),
            "workflows": [address_of(one) for one in self.workflows],
            "activities": [address_of(one) for one in self.activities],
            "faults": {name: asdict(fault) for name, fault in self.fault.items()},
            "worker": address_of(self.worker) if self.worker else None,
            "replay": None,
        }


class Director:
    """Stands in the cell's thread: starts and kills processes, and prints what they print."""

    def __init__(self, plan: Plan, done: Try, book: Path) -> None:
        self.plan, self.done, self.book = plan, done, book
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.processes: list[WorkerProcess] = []
        self.moments = list(plan.kill_at)
        self.call: Call | None = None
        self.begun = time.monotonic()

    def run(self) -> None:
        try:
            if self.plan.process:
                self._launch()
                self._wait_ready()
            self.call = Call(lambda loop: Live(self.plan, self.done, self.book).run(loop))
            self._direct(self.call)
        except WorkerFailed as err:
            self._end()
            self.done.running, self.done.failure = False, err
        finally:
            self._end()

    def _end(self) -> None:
        """Harmless twice."""
        call, self.call = self.call, None
        if call and not call.stop():
            self._leave_blocked(call)
        for process in self.processes:
            process.end()
        self._print()

    def _direct(self, call: Call) -> None:
        limit = time.monotonic() + self.plan.seconds + LATE_SECONDS
        while not call.wait(LOOK_SECONDS):
            self._look()
            if time.monotonic() > limit:
                if call.on.is_blocked():
                    return
                raise LabError("The lab's Temporal server is too slow to answer. Try again.")
        call.result()

    def _look(self) -> None:
        self._print()
        for process in self.processes:
            process.check()
        if self.moments and self.processes[-1].ready.is_set() and self._is_due(self.moments[0]):
            del self.moments[0]
            self.processes[-1].signal(self.plan.how)
            self.done.killed.append(time.monotonic() - self.begun)
            self._launch()

    def _is_due(self, moment: Moment) -> bool:
        lines = books.read(self.book)
        if callable(moment):
            return bool(moment(lines))
        waiting = [
            line["time"] + line["value"]
            for line in lines
            if line["kind"] == "pause" and line["pid"] == self.processes[-1].popen.pid
        ]
        return bool(waiting) and time.time() >= waiting[0]

    def _launch(self) -> None:
        todo = self.plan.for_process(self.done.id, self.book)
        moment = self.moments[0] if self.moments else None
        todo["pause"] = moment if isinstance(moment, int) else None
        self.processes.append(WorkerProcess(todo, self.lines, self.plan.hash_seed))

    def _wait_ready(self) -> None:
        limit = time.monotonic() + START_SECONDS
        while not self.processes[0].ready.wait(LOOK_SECONDS):
            self._look()
            if time.monotonic() > limit:
                raise WorkerFailed(f"the worker process did not begin within {START_SECONDS:g} s")
        self._look()

    def _print(self) -> None:
        while not self.lines.empty():
            sys.stdout.write(self.lines.get())

    def _leave_blocked(self, call: Call) -> None:
        """Somebody's code keeps the loop from going round. Nobody can end it: go round it."""
        call.on.leave()
        self.done.hung = True
        begun = [x["activity"] for x in books.read(self.book) if x["kind"] == "attempt"]
        name = begun[-1] if begun else "something"
        self.done.why = f"{name} is async and blocks its worker's event loop: await, or use def"
        with suppress(Exception):
            with_client(lambda client: client.get_workflow_handle(self.done.id).terminate())


class Live:
    """The part of a try that talks to the server, on the bench's loop."""

    def __init__(self, plan: Plan, done: Try, book: Path) -> None:
        self.plan, self.done, self.book = plan, done, book

    async def run(self, loop: Loop) -> None:
        client = await loop.client()
        if self.plan.data_converter:
            client = Client(**client.config() | {"data_converter": self.plan.data_converter})
        if self.plan.process:
            await self._run(client, None)
            return
        try:
            worker = self.plan.make_worker(client, self.done.id)
        except Exception as err:  # the sandbox refuses the workflow, an activity is none, …
            self.done.running, self.done.failure = False, err
            return
        serving = asyncio.ensure_future(worker.run())
        try:
            await self._run(client, serving)
        finally:
            stopping = asyncio.ensure_future(worker.shutdown())
            _, late = await asyncio.wait({stopping}, timeout=STOP_SECONDS)
            self.done.hung = bool(late)
            await asyncio.wait({serving}, timeout=0 if late else STOP_SECONDS)

    async def _run(self, client: Client, serving: asyncio.Future | None) -> None:
        skipper = TimeSkipper(client) if self.plan.skip else None
        handle = await (skipper.client if skipper else client).start_workflow(
            self.plan.workflow.run,  # type: ignore[attr-defined]
            args=self.plan.args,
            id=self.done.id,
            task_queue=self.done.id,
            task_timeout=timedelta(seconds=2),  # a stopped worker's workflow task comes back soon
            execution_timeout=None if skipper else timedelta(hours=1),  # of a killed kernel
        )
        tasks = [self._all(client, handle), self._until()]
        if skipper:
            tasks.append(self._skip(skipper, handle))
        try:
            await self._watch([asyncio.ensure_future(task) for task in tasks], serving)
        finally:
            await self._end(handle)

    async def _watch(self, tasks: list[asyncio.Future], serving: asyncio.Future | None) -> None:
        watched = {*tasks, serving} if serving else set(tasks)
        try:
            finished, _ = await asyncio.wait(
                watched, timeout=self.plan.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            for task in finished:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _all(self, client: Client, handle: WorkflowHandle) -> None:
        if self.plan.meanwhile is None:
            await self._result(handle)
            return
        _, self.done.answer = await asyncio.gather(
            self._result(handle), self.plan.meanwhile(client, handle)
        )

    async def _result(self, handle: WorkflowHandle) -> None:
        try:
            self.done.result = await handle.result()
        except WorkflowFailureError as err:
            self.done.failure = err.cause
        self.done.running = False

    async def _until(self) -> None:
        while not (self.plan.until and self.plan.until(books.read(self.book))):
            await asyncio.sleep(LOOK_SECONDS)

    async def _skip(self, skipper: TimeSkipper, handle: WorkflowHandle) -> None:
        """Never the first to end: a run may go on after its clock was moved."""
        assert self.plan.skip
        with suppress(Exception):  # the run has ended meanwhile
            await skipper.fast_forward(handle, self.plan.skip)
        await asyncio.Event().wait()

    async def _end(self, handle: WorkflowHandle) -> None:
        if self.done.running:
            about = await handle.describe()
            history = await handle.fetch_history()
            self.done.why = unfinished(
                about, history, books.read(self.book), bool(self.done.killed)
            )
            with suppress(Exception):  # it has ended meanwhile
                await handle.terminate("the try is over")
        self.done.history = await handle.fetch_history()
