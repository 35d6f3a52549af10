"""The clinic: one call makes a run ill, another one makes it well."""

import asyncio
import queue
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from temporalio.api.workflow.v1 import PendingActivityInfo, PendingWorkflowTaskInfo
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from clinic import activities as acts
from clinic import workflows as flows
from labkit.ask.client import connect
from labkit.ask.describe import describe
from labkit.ask.reasons import why
from labkit.ask.silence import describe_queue
from labkit.bench import with_client as within
from labkit.bench.process import WorkerProcess
from labkit.bench.tryworker import Threads, address_of
from labkit.core.settings import LabError
from labkit.datasets import draw
from labkit.run import Run

T = TypeVar("T")
LIMIT = 40.0
LOOK_SECONDS = 0.05
LARGE_ROWS = 60_000  # 2.9 MB; a payload may have 2 MiB
TREES = 60
SIMPLE = [acts.fetch, acts.check, acts.train]
STATES = {0: "", 1: "scheduled", 2: "started", 3: "cancel requested", 4: "paused"}


def with_client(make: Callable[[Client], Awaitable[T]]) -> T:
    """Ask the server. A machine that is busy with a whole room may take a while."""
    return within(make, LIMIT)


class Lab(Protocol):
    def run(self, id: str) -> Run: ...


class Staff:
    """A worker in a thread with an event loop of its own: what it blocks is nobody else's."""

    def __init__(self, queue: str, **options: Any) -> None:
        self._options = options | {"task_queue": queue}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._ready.wait(LIMIT)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        worker = Worker(
            await connect(),
            activity_executor=Threads(8),
            workflow_runner=SandboxedWorkflowRunner(),
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=0.3),
            **self._options,
        )
        async with worker:
            self._ready.set()
            await self._stop.wait()

    def stop(self) -> None:
        """Harmless twice. A thread that somebody blocks is left alone: it is a daemon."""
        with suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(3)


class Clinic:
    """Runs that hang, each in one way. Everything that is started has ended after ``close``."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._end = lab, ExitStack()
        self._staff: dict[str, Staff] = {}
        self._runs: list[str] = []
        self._cures: dict[str, Callable[[], str]] = {}
        self._folder = Path(self._end.enter_context(tempfile.TemporaryDirectory()))

    # Nobody works.

    def no_worker(self) -> Run:
        """A run on a task queue that nobody polls."""
        run = self._start(
            "no-worker", flows.OneActivity, "fetch", [], {"start_to_close_timeout": 9}
        )
        self._cures[run.id] = lambda: self._with(run, "A worker polls its task queue now.")
        return self._shows(run, "No worker polls")

    def wrong_queue(self) -> Run:
        """An activity that was sent to a task queue whose name is misspelt."""
        id = self._name("wrong-queue")
        wrong = f"{id}-gpuu"
        self._work(id)
        self._begin(id, flows.OneActivity, "train", [], {"start_to_close_timeout": 9}, 0, wrong)
        run = self._lab.run(id)

        def cure() -> str:
            self._work(wrong)
            return f"A worker polls {wrong} now. {self._result(run)}"

        self._cures[id] = cure
        return self._shows(run, "No worker polls")

    def missing_activity(self) -> Run:
        """A worker that was started without one of its activities."""
        id = self._name("missing-activity")
        self._work(id, activities=[acts.fetch])
        self._begin(id, flows.OneActivity, "train", [], {"start_to_close_timeout": 9})
        run = self._lab.run(id)
        self._cures[id] = lambda: self._with(run, "Its worker has train now.")
        return self._shows(run, "is not registered")

    def not_current(self) -> Run:
        """A worker of a version that nobody has made the current one."""
        id = self._name("not-current")
        version = WorkerDeploymentVersion(id, "1.0")
        versioning = WorkerDeploymentConfig(version, True, VersioningBehavior.PINNED)
        self._work(id, deployment_config=versioning)
        run = self._lab.run(id)
        self._begin(id, flows.OneActivity, "fetch", [], {"start_to_close_timeout": 9})

        async def set_current(client: Client) -> None:
            await client.workflow_service.set_worker_deployment_current_version(
                SetWorkerDeploymentCurrentVersionRequest(
                    namespace=client.namespace, deployment_name=id, build_id="1.0"
                )
            )

        def cure() -> str:
            with_client(set_current)
            return f"Version 1.0 is current now. {self._result(run)}"

        self._cures[id] = cure
        return self._shows(run, "is not current")

    # The workflow's own code.

    def plain_exception(self) -> Run:
        """A workflow whose code has a bug."""
        id = self._name("plain-exception")
        self._work(id, [flows.ReportWithBug])
        self._begin(id, flows.ReportWithBug, {})
        run = self._lab.run(id)
        self._cures[id] = lambda: self._with(run, "The bug is mended.", [flows.Report])
        return self._shows(run, "own code fails")

    def changed_code(self) -> Run:
        """A workflow whose code was changed while a run of it waited."""
        id = self._name("changed-code")
        self._work(id, [flows.Before])
        self._begin(id, flows.Before)
        run = self._lab.run(id)
        self._shows(run, "Nothing is pending")
        self._work(id, [flows.After])
        with_client(lambda client: client.get_workflow_handle(id).signal("go"))
        self._cures[id] = lambda: self._with(
            run, "The check is behind workflow.patched() now.", [flows.Patched]
        )
        return self._shows(run, "cannot replay")

    def blocked_loop(self) -> Run:
        """A healthy run whose worker is blocked by somebody else's activity."""
        id = self._name("blocked-loop")
        self._work(id, activities=[*SIMPLE, acts.blocks])
        blocker = f"{id}-other"
        self._begin(blocker, flows.OneActivity, "blocks", [], {"start_to_close_timeout": 99}, on=id)
        self._until(lambda: blocker in acts.RELEASED)
        self._begin(id, flows.OneActivity, "fetch", [], {"start_to_close_timeout": 9}, task=10)
        run = self._lab.run(id)

        def cure() -> str:
            acts.RELEASED[blocker].set()
            return f"The other one's call has returned. {self._result(run)}"

        self._cures[id] = cure
        return self._shows(run, "has not answered")

    def neighbour(self) -> dict[str, float]:
        """How long a run of one quick activity takes beside real work on the same worker."""
        found = {}
        for what, fit in {
            "nothing": None,
            "a fit in an async def": "fit_in_the_loop",
            "the same fit in a def": "fit_in_a_thread",
        }.items():
            id = self._name("neighbour")
            self._work(id, activities=[*SIMPLE, acts.fit_in_the_loop, acts.fit_in_a_thread])
            limits = {"start_to_close_timeout": 60}
            if fit:
                other = f"{id}-other"
                self._begin(other, flows.OneActivity, fit, [TREES], limits, on=id)
                self._until(lambda other=other: other in acts.FITTING)  # type: ignore[misc]
            begun = time.monotonic()
            self._begin(id, flows.OneActivity, "fetch", [], limits, task=10)
            self._result(self._lab.run(id))
            found[what] = time.monotonic() - begun
            if fit:
                self.wait(self._lab.run(other))
        return found

    def wrong_argument(self) -> Run:
        """An activity that asks for a path, and is given a number."""
        id = self._name("wrong-argument")
        self._work(id, activities=[acts.count_file])
        self._begin(id, flows.OneActivity, "count_file", [7], {"start_to_close_timeout": 9})
        run = self._lab.run(id)

        def cure() -> str:
            self._work(id, activities=[acts.count_any_file])
            return f"The activity takes a number now. {self._result(run)}"

        self._cures[id] = cure
        return self._shows(run, "Failed decoding arguments")

    def large_argument(self) -> Run:
        """Two halves of a file, each small enough, that are passed on together."""
        path, id = self._large(), self._name("large-argument")
        self._work(id, [flows.PassesText], [acts.read_half, acts.count_text])
        self._begin(id, flows.PassesText, path, task=10)
        run = self._lab.run(id)

        def cure() -> str:
            self._terminate(id)
            self._work(f"{id}-2", [flows.PassesPath], [acts.count_file])
            self._begin(f"{id}-2", flows.PassesPath, path)
            return f"A new run passes the path. {self._result(self._lab.run(f'{id}-2'))}"

        self._cures[id] = cure
        return self._shows(run, "more than a message may hold")

    def large_result(self) -> Run:
        """An activity that returns a whole file."""
        path, id = self._large(), self._name("large-result")
        self._work(id, activities=[acts.read_all])
        self._begin(id, flows.OneActivity, "read_all", [path], {"start_to_close_timeout": 9})
        run = self._lab.run(id)

        def cure() -> str:
            self._work(id, activities=[acts.say_where])
            self._result(run)
            return "The same activity returns the path now, and the run has completed."

        self._cures[id] = cure
        return self._shows(run, "PayloadsTooLarge")

    # Activities.

    def swallowed_error(self) -> Run:
        """An activity that catches its error, and returns it."""
        id, port = self._name("swallowed-error"), self._closed_port()
        self._work(id, activities=[acts.log_or_say, acts.log_or_raise])
        limits = {"start_to_close_timeout": 9}
        self._begin(id, flows.OneActivity, "log_or_say", [port], limits)

        def cure() -> str:
            self._begin(f"{id}-2", flows.OneActivity, "log_or_raise", [port], limits, on=id)
            again = self._lab.run(f"{id}-2")
            self._shows(again, "has failed twice")
            self._open(port)
            return (
                f"A new run raises, and so is tried until the server is back. {self._result(again)}"
            )

        self._cures[id] = cure
        return self._shows(self._lab.run(id), "no attempt failed")

    def long_budget(self) -> Run:
        """Retries that would last longer than the run may."""
        id, port = self._name("long-budget"), self._closed_port()
        self._work(id, [flows.Budget], [acts.log_or_raise])
        limits = {"start_to_close_timeout": 9}
        total = timedelta(seconds=2.5)
        self._begin(id, flows.Budget, port, limits, execution_timeout=total)

        def cure() -> str:
            shorter = limits | {"schedule_to_close_timeout": 1}
            self._begin(f"{id}-2", flows.Budget, port, shorter, on=id, execution_timeout=total)
            return (
                f"A new run, with a limit for the retries. {self._result(self._lab.run(f'{id}-2'))}"
            )

        self._cures[id] = cure
        return self._shows(self._lab.run(id), "nothing else ends the retries")

    def budget_at_once(self) -> Run:
        """The same without a pause: no attempt fits any more, a moment before the run's limit."""
        id, port = self._name("budget-at-once"), self._closed_port()
        self._work(id, [flows.Budget], [acts.log_or_raise])
        limits = {"start_to_close_timeout": 9}
        total = timedelta(seconds=2.5)
        self._begin(id, flows.Budget, port, limits, 0, 1, execution_timeout=total)
        run = self._lab.run(id)
        self.wait(run)
        return run

    def no_heartbeat(self) -> Run:
        """An activity without heartbeats, whose worker process has just been killed."""
        id = self._name("no-heartbeat")
        process = self._process(id, [flows.OneActivity], [acts.silent])
        self._begin(id, flows.OneActivity, "silent", [], {"start_to_close_timeout": 3600})
        run = self._lab.run(id)
        self._shows(run, "is in attempt 1")
        process.end()

        async def fail(client: Client) -> None:
            run_id = (await client.get_workflow_handle(id).describe()).run_id
            lost = client.get_async_activity_handle(workflow_id=id, run_id=run_id, activity_id="1")
            await lost.fail(RuntimeError("its worker is dead"))

        def cure() -> str:
            acts.RELEASED[id].set()
            self._work(id, activities=[acts.silent])
            with_client(fail)
            return f"Its attempt was ended from outside, and another one came. {self._result(run)}"

        self._cures[id] = cure
        return run

    def deaf_to_cancel(self) -> Run:
        """An activity that heartbeats, and catches whatever a heartbeat raises."""
        run = self._cancelled("stubborn")

        def cure() -> str:
            acts.RELEASED[run.id].set()
            self._result(run)
            other, begun = self._cancelled("obedient"), time.monotonic()
            self.wait(other)
            return (
                "The first one had to be let go, and has completed: the request was lost. One "
                f"without that except was cancelled after {time.monotonic() - begun:.1f} s."
            )

        self._cures[run.id] = cure
        return self._shows(run, "heartbeats and goes on")

    def zombie(self) -> Run:
        """An attempt that its timeout does not stop, beside the next one."""
        run = self._export({"start_to_close_timeout": 1}, acts.export)

        def cure() -> str:
            beating = {"start_to_close_timeout": 1, "heartbeat_timeout": 0.5}
            left = max(0.0, self.overlap(self._export(beating, acts.export_and_beat)))
            return f"A new run's activity heartbeats. Two attempts wrote together for {left:.2f} s."

        self._cures[run.id] = cure
        return self._shows(run, "may still be at work beside it")

    def _export(self, limits: dict[str, float], activity: Callable[..., Any]) -> Run:
        id = self._name("zombie")
        self._work(id, activities=[activity])
        path = str(self._folder / id)
        self._begin(id, flows.OneActivity, "export", [path], limits, 2)
        return self._lab.run(id)

    def overlap(self, run: Run) -> float:
        """For how many seconds its first two attempts wrote into one file at the same time."""
        self.wait(run)
        lines = (self._folder / run.id).read_text(encoding="utf-8").split()
        times = {
            n: [float(t) for m, t in zip(*[iter(lines)] * 2, strict=True) if m == n] for n in "12"
        }
        return max(times["1"]) - min(times["2"])

    def hung_dependency(self) -> Run:
        """An activity that asks a server which takes the call, and never answers."""
        id, port = self._name("hung-dependency"), self._closed_port()
        server = self._open(port)
        self._work(id, activities=[acts.ask])
        limits = {"start_to_close_timeout": 3600, "heartbeat_timeout": 2}
        self._begin(id, flows.OneActivity, "ask", [f"http://127.0.0.1:{port}"], limits)
        run = self._lab.run(id)

        def cure() -> str:
            self._work(id, activities=[acts.ask_with_limit])
            self._shows(run, "Timeout")
            server.answer.set()
            return f"The call has a limit now, so it is tried again. {self._result(run)}"

        self._cures[id] = cure
        return self._shows(run, "Its last heartbeat came")

    def two_limits(self) -> tuple[Run, Run]:
        """The same hang under a limit for an attempt, and under one for all attempts."""
        queue = self._name("two-limits")
        self._work(queue, activities=[acts.silent])
        one, all = f"{queue}-one", f"{queue}-all"
        self._begin(
            one, flows.OneActivity, "silent", [], {"start_to_close_timeout": 1}, 2, on=queue
        )
        self._begin(
            all, flows.OneActivity, "silent", [], {"schedule_to_close_timeout": 2}, on=queue
        )
        runs = self._lab.run(one), self._lab.run(all)
        for run in runs:
            self.wait(run)
        return runs

    def cancel_and_terminate(self) -> tuple[Run, Run]:
        """Two runs of one workflow: the first is cancelled, the second terminated."""
        queue = self._name("ends")
        self._work(queue, [flows.TidiesUp], [acts.tidy_up])
        cancelled, terminated = f"{queue}-cancel", f"{queue}-terminate"
        for id in (cancelled, terminated):
            self._begin(id, flows.TidiesUp, on=queue)
            self._shows(self._lab.run(id), "Nothing is pending")
        with_client(lambda client: client.get_workflow_handle(cancelled).cancel())
        self._terminate(terminated)
        runs = self._lab.run(cancelled), self._lab.run(terminated)
        self.wait(runs[0])
        return runs

    def has_tidied_up(self, run: Run) -> bool:
        return run.id in acts.TIDY

    # What all of them need.

    def cure(self, run: Run) -> None:
        """Do what makes it well, and say what that was."""
        print(self._cures[run.id]())

    def compare(self, *runs: Run) -> None:
        """Print what the server says of each: tasks that are pending, and who polls the queue."""
        print(f"{'':<18}{'workflow task':<16}{'activity':<20}{'attempt':<11}{'failure':<9}pollers")
        for run in runs:
            print(with_client(lambda client, id=run.id: _facts(client, id)))  # type: ignore[misc]

    def wait(self, run: Run) -> None:
        """Wait until it has ended."""
        self._until(lambda: not self._is_open(run.id))

    def close(self) -> None:
        """End every run that is still open, and every worker."""
        for id in self._runs:
            acts.RELEASED[id].set()
            self._terminate(id)
        for staff in self._staff.values():
            staff.stop()
        self._staff.clear()
        self._end.close()
        print("The clinic is closed: its workers have ended, and none of its runs is open.")

    def _name(self, case: str) -> str:
        return f"clinic-{case}-{uuid4().hex[:6]}"

    def _start(self, case: str, workflow: type, *args: Any) -> Run:
        id = self._name(case)
        self._begin(id, workflow, *args)
        return self._lab.run(id)

    def _begin(
        self, id: str, workflow: type, *args: Any, on: str = "", task: float = 1, **options: Any
    ) -> WorkflowHandle:
        """Start a run. A workflow task that fails is tried again after a second already."""
        self._runs.append(id)
        return with_client(
            lambda client: client.start_workflow(
                workflow.run,  # type: ignore[attr-defined]
                args=args,
                id=id,
                task_queue=on or id,
                task_timeout=timedelta(seconds=task),
                **options,
            )
        )

    def _work(
        self,
        queue: str,
        workflows: Sequence[type] = (flows.OneActivity,),
        activities: Sequence[Callable[..., Any]] = SIMPLE,
        **options: Any,
    ) -> None:
        """Start a worker, in place of the one that polls the queue now."""
        if queue in self._staff:
            self._staff.pop(queue).stop()
        self._staff[queue] = Staff(queue, workflows=workflows, activities=activities, **options)

    def _process(
        self, id: str, workflows: Sequence[type], activities: Sequence[Callable[..., Any]]
    ) -> WorkerProcess:
        todo = {
            "queue": id,
            "book": str(self._folder / "book"),
            "address": with_client(_address),
            "workflows": [address_of(one) for one in workflows],
            "activities": [address_of(one) for one in activities],
            "faults": {},
            "graceful": None,
            "worker": None,
            "replay": None,
            "pause": None,
        }
        process = WorkerProcess(todo, queue.SimpleQueue())
        self._end.callback(process.end)
        process.ready.wait(LIMIT)
        return process

    def _with(self, run: Run, said: str, workflows: Sequence[type] = (flows.OneActivity,)) -> str:
        self._work(run.id, workflows)
        return f"{said} {self._result(run)}"

    def _cancelled(self, name: str) -> Run:
        """A run that was asked to cancel while that activity was at work."""
        id = self._name(f"{name}-activity")
        self._work(id, [flows.WaitsForCancel], [acts.stubborn, acts.obedient])
        self._begin(id, flows.WaitsForCancel, name)
        self._until(lambda: id in acts.RELEASED)
        with_client(lambda client: client.get_workflow_handle(id).cancel())
        return self._lab.run(id)

    def _result(self, run: Run) -> str:
        result = with_client(lambda client: client.get_workflow_handle(run.id).result())
        return f"The run has completed: {result!r}."

    def _shows(self, run: Run, words: str) -> Run:
        """Wait until a run shows what it has."""
        said: list[str] = [""]

        def shown() -> bool:
            said[0] = with_client(lambda client: why(client, run.id)).sentence
            return words in said[0]

        self._until(shown, said)
        return run

    def _until(self, condition: Callable[[], bool], said: Sequence[str] = ("",)) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            if time.monotonic() > deadline:
                raise LabError(f"It did not come to that within {LIMIT:g} s. {said[0]}")
            time.sleep(LOOK_SECONDS)

    def _is_open(self, id: str) -> bool:
        return with_client(lambda client: describe(client, id)).open

    def _terminate(self, id: str) -> None:
        async def terminate(client: Client) -> None:
            with suppress(RPCError):  # it has ended
                await client.get_workflow_handle(id).terminate(reason="the clinic")

        with_client(terminate)

    def _large(self) -> str:
        path = self._folder / "large.csv"
        if not path.exists():
            path.write_bytes(draw(LARGE_ROWS))
        return str(path)

    def _closed_port(self) -> int:
        """A port where nobody listens."""
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            return port

    def _open(self, port: int) -> "Answering":
        server = Answering(port)
        self._end.callback(server.close)
        return server


class Answering:
    """A server that takes every call. It answers those that come once ``answer`` is set."""

    def __init__(self, port: int) -> None:
        self.answer = threading.Event()
        self._socket, self._open = socket.create_server(("127.0.0.1", port)), [socket.socket()]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                call, _ = self._socket.accept()
                self._open.append(call)
                if self.answer.is_set():
                    call.recv(4096)
                    call.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for one in (self._socket, *self._open):
            one.close()


async def _address(client: Client) -> str:
    return client.service_client.config.target_host


async def _facts(client: Client, id: str) -> str:
    seen = await describe(client, id)
    task, pending = seen.raw_description.pending_workflow_task, seen.pending
    name = id.removeprefix("clinic-").rpartition("-")[0]
    queue_of = pending.activity_options.task_queue.name if pending else ""
    polled = (await describe_queue(client, queue_of or seen.task_queue)).asked is not None
    attempt = pending.attempt if pending else task.attempt
    failed = "yes" if pending and pending.HasField("last_failure") else ""
    return (
        f"{name:<18}{_state(task):<16}{_state(pending) if pending else '-':<20}"
        f"{'2 or more' if attempt > 1 else attempt or '-':<11}{failed or '-':<9}"
        f"{'some' if polled else 'none'}"
    )


def _state(task: PendingWorkflowTaskInfo | PendingActivityInfo) -> str:
    """What is tried again is scheduled, then started, then scheduled: that is one state here."""
    return "tried again" if task.attempt > 1 else STATES[task.state] or "-"
