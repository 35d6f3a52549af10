"""The worker of one try: in a thread of the kernel, or as ``python -m labkit.bench.tryworker``.

The process imports temporalio and the participant's modules, and little else. It reads one line
of JSON that says what to do, and ends when its standard input closes: it outlives no kernel.
"""

import asyncio
import importlib
import importlib.util
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowHistory
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import ApplicationError, is_cancelled_exception
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    Replayer,
    Worker,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from labkit.bench.ledger import BOOKS, PAUSES, STOPPING, Ledger, note, read
from labkit.bench.words import quoted

CONTENT = "exercise_"  # begins the module name of each exercise's check.py
ACTIVITIES_AT_ONCE = 8


@dataclass(frozen=True)
class Fault:
    """The first attempts of an activity fail, before or after the participant's own code.

    Attributes:
        times: so many attempts of each call fail.
        after: the activity has had its effect by then.
        hang: the attempt never ends, so that its worker can be killed in it.
        calls: only these calls of the activity, counted from 1; all, when there are none.
        error: what the failure says, and ``type`` its type.
        non_retryable: no further attempt follows.
    """

    times: int = 1
    after: bool = False
    hang: bool = False
    calls: Sequence[int] = ()
    error: str = "a fault of the bench"
    type: str = "BenchFault"
    non_retryable: bool = False

    def is_due(self, info: activity.Info, lines: Ledger) -> bool:
        call = lines.calls(info.activity_type).index(info.activity_id) + 1
        return info.attempt <= self.times and (not self.calls or call in self.calls)

    async def strike(self) -> None:
        if self.hang:
            await asyncio.Event().wait()
        raise ApplicationError(self.error, type=self.type, non_retryable=self.non_retryable)


class Notes(Interceptor):
    """Notes every attempt and failure in the ledger, and lets the faults strike."""

    def __init__(self, faults: dict[str, Fault]) -> None:
        self.faults = faults

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Noting(next, self.faults)


class _Noting(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, faults: dict[str, Fault]) -> None:
        super().__init__(next)
        self.faults = faults

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        note("attempt")
        fault = self.faults.get(info.activity_type)
        due = fault if fault and fault.is_due(info, read(BOOKS[info.task_queue])) else None
        if due and not due.after:
            await due.strike()
        try:
            answer = await super().execute_activity(input)
        except Exception as err:
            if not is_cancelled_exception(err):
                note("failure", quoted(err))
            raise
        if due:
            await due.strike()
        return answer


class Threads(ThreadPoolExecutor):
    """A daemon thread for each call: one that hangs keeps no kernel from ending.

    A ThreadPoolExecutor in name, because the SDK wants activities that can be pickled otherwise.
    """

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as err:
                future.set_exception(err)

        threading.Thread(target=call, name="try", daemon=True).start()
        return future


def make_worker(
    client: Client,
    queue: str,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]],
    faults: dict[str, Fault],
    factory: Callable[..., Worker] = Worker,
) -> Worker:
    """The same worker in a thread and in a process.

    Args:
        factory: makes the worker of ``(client, **options)``.
    """
    return factory(
        client,
        task_queue=queue,
        workflows=workflows,
        activities=activities,
        activity_executor=Threads(ACTIVITIES_AT_ONCE),
        interceptors=[Notes(faults)],
        max_concurrent_activities=ACTIVITIES_AT_ONCE,
        workflow_runner=sandbox(workflows),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=0.3),
        # Each heartbeat is sent: with the usual throttle a kill repeats what came after the last.
        max_heartbeat_throttle_interval=timedelta(seconds=0.01),
        # A stopped process keeps its open polls, and the server hands a task to each: have few.
        max_concurrent_activity_task_polls=1,
        max_concurrent_workflow_task_polls=2,
        # An exception in a workflow's code fails the run at once, in place of a task that is
        # tried for ever.
        workflow_failure_exception_types=[Exception],
    )


def sandbox(workflows: Sequence[type]) -> SandboxedWorkflowRunner:
    """The sandbox is on. The bench and its exercises' own workflows pass through it."""
    ours = {one.__module__ for one in workflows if one.__module__.startswith(CONTENT)}
    restrictions = SandboxRestrictions.default.with_passthrough_modules("labkit.bench", *ours)
    return SandboxedWorkflowRunner(restrictions)


def load_file(name: str, path: Path) -> ModuleType:
    """Import a file under a name of our choice."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def address_of(thing: Any) -> list[str]:
    """How another process finds a class or a function: module, name, and the module's file."""
    file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    return [thing.__module__, thing.__qualname__, str(file or "")]


def find(module: str, name: str, file: str) -> Any:
    if module.startswith(CONTENT) and module not in sys.modules:
        load_file(module, Path(file))
    return getattr(importlib.import_module(module), name)


def _tell(word: str, said: str = "") -> None:
    print(f"\0{word} {json.dumps(said)}", flush=True)


async def _serve(todo: dict[str, Any]) -> None:
    workflows = [find(*one) for one in todo["workflows"]]
    activities = [find(*one) for one in todo["activities"]]
    if todo["replay"]:
        await _replay(workflows, todo)
        return
    BOOKS[todo["queue"]] = Path(todo["book"])
    if todo["pause"] is not None:
        PAUSES[todo["queue"]] = todo["pause"]
    quiet = TelemetryFilter(core_level="ERROR", other_level="ERROR")
    runtime = Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=quiet)))
    profile = ClientConfig.load_client_connect_config() | {"target_host": todo["address"]}
    client = await Client.connect(**profile, runtime=runtime)
    faults = {name: Fault(**fault) for name, fault in todo["faults"].items()}
    factory = find(*todo["worker"]) if todo["worker"] else Worker
    worker = make_worker(client, todo["queue"], workflows, activities, faults, factory)
    stop = asyncio.Event()
    if todo["worker"]:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with worker:
        _tell("ready")
        await stop.wait()
        STOPPING.set()


async def _replay(workflows: list[type], todo: dict[str, Any]) -> None:
    history = WorkflowHistory.from_json(todo["queue"], todo["replay"])
    replayer = Replayer(workflows=workflows, workflow_runner=sandbox(workflows))
    outcome = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    err = outcome.replay_failure
    _tell("replayed", quoted(err) if err else "")


def main() -> None:
    logging.disable(logging.CRITICAL)  # the history says what failed
    if not (line := sys.stdin.readline()):
        return
    todo = json.loads(line)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    sys.path[:] = todo["path"]
    try:
        asyncio.run(_serve(todo))
    except BaseException as err:
        _tell("failed", quoted(err))
        os._exit(1)
    os._exit(0)  # the SDK's own threads may still need the interpreter


if __name__ == "__main__":
    main()
