"""Tries on a real server: what is broken breaks, and whatever was started has ended."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from lessons.debug import look
from temporalio.client import Client, WorkflowHandle

from labkit.bench import Fault, Ledger, Off, Try, cells, replay, try_out, with_client
from labkit.bench.loop import Loop
from labkit.core.paths import LabError
from labkit.core.settings import REPOSITORY

CELL = '''
import asyncio
import os
import sys
import time
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

from labkit.bench import effect

SECOND = timedelta(seconds=1)
QUICK = RetryPolicy(initial_interval=timedelta(milliseconds=50), backoff_coefficient=1)


@activity.defn
def note(value: int) -> int:
    effect(value)
    print(f"noted {value}")
    return value


@activity.defn
def slow(value: int) -> int:
    for i in range(20):
        activity.heartbeat(i)
        time.sleep(0.03)
    effect(value)
    return value


@activity.defn(name="note")
def hang(value: int) -> int:
    time.sleep(100)


@activity.defn(name="note")
async def block(value: int) -> int:
    time.sleep(9)


@activity.defn(name="note")
def fail(value: int) -> int:
    return value / 0


@activity.defn(name="note")
def leave(value: int) -> int:
    os._exit(3)


@workflow.defn
class Notes:
    """Notes a value, so many times, one after another."""

    @workflow.run
    async def run(self, times: int) -> list[int]:
        return [await self._note(i) for i in range(times)]

    async def _note(self, i: int) -> int:
        return await workflow.execute_activity(
            "note", i, start_to_close_timeout=SECOND, retry_policy=QUICK, result_type=int
        )


@workflow.defn
class Slow:
    @workflow.run
    async def run(self) -> int:
        return await workflow.execute_activity(
            slow,
            7,
            start_to_close_timeout=10 * SECOND,
            heartbeat_timeout=SECOND,
            retry_policy=QUICK,
        )


@workflow.defn
class Waits:
    def __init__(self) -> None:
        self.said = ""

    @workflow.run
    async def run(self, days: int) -> str:
        try:
            await workflow.wait_condition(lambda: bool(self.said), timeout=timedelta(days=days))
        except TimeoutError:
            return "nobody came"
        return self.said

    @workflow.signal
    def say(self, what: str) -> None:
        self.said = what


def patient(client, **options):
    return Worker(client, graceful_shutdown_timeout=3 * SECOND, **options)


def hasty(client, **options):
    return Worker(client, **options)


@workflow.defn
class Spins:
    @workflow.run
    async def run(self) -> None:
        while True:
            pass
'''


# The bench's loop, the pools of asyncio and of the SDK, and what an activity that hangs occupies.
POOLS = ("bench", "asyncio", "ThreadPoolExecutor", "temporal_workflow", "try")


@pytest.fixture
def cell(modules: cells.Mine) -> ModuleType:
    return modules.keep("bench_cell", CELL)


@pytest.fixture(autouse=True)
def nothing_is_left(temporal: Any) -> Iterator[None]:
    """No process, no thread but those of pools, no running workflow."""
    children, threads = set(psutil.Process().children()), set(threading.enumerate())
    yield
    new = [x for x in threading.enumerate() if x not in threads]
    assert not [x for x in new if not x.name.startswith(POOLS)], new
    assert set(psutil.Process().children()) <= children
    assert with_client(open_tries) == []


async def open_tries(client: Client) -> list[str]:
    """The tries that the server still runs; its list is a moment late."""
    for _ in range(50):
        query = "ExecutionStatus = 'Running' AND WorkflowId STARTS_WITH 'try-'"
        if not (found := [run.id async for run in client.list_workflows(query)]):
            return []
        await asyncio.sleep(0.1)
    return found


@pytest.mark.parametrize("process", [False, True])
def test_result_history_and_ledger(
    cell: ModuleType, process: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = try_out(cell.Notes, 2, activities=[cell.note], process=process)
    assert tried.ended().result == [0, 1]
    assert tried.effects() == tried.effects("note") == [0, 1]
    assert tried.scheduled() == ["note", "note"]
    assert tried.events()[0] == "WorkflowExecutionStarted"
    assert tried.events()[-1] == "WorkflowExecutionCompleted"
    assert (tried.ledger.pids() == [os.getpid()]) is not process
    assert capsys.readouterr().out == "noted 0\nnoted 1\n"
    assert str(tried).startswith("returned [0, 1] after ")


def test_the_worker_is_killed_twice(cell: ModuleType) -> None:
    tried = try_out(cell.Notes, 5, activities=[cell.note], kill_at=[2, 4], seconds=20)
    assert tried.ended().result == [0, 1, 2, 3, 4]
    assert len(tried.killed) == 2 and len(tried.ledger.pids()) == 3
    assert tried.effects() == [0, 1, 2, 3, 4], "killed in front of an effect, each time"


def test_an_attempt_that_hangs_is_killed_after_its_effect(cell: ModuleType) -> None:
    tried = try_out(
        cell.Notes,
        3,
        activities=[cell.note],
        fault={"note": Fault(hang=True, after=True, calls=[2])},
        kill_at=lambda ledger: len(ledger.effects()) == 2,
        seconds=20,
    )
    assert tried.ended().effects() == [0, 1, 1, 2]
    assert len(tried.ledger.calls("note")) == 3


@pytest.mark.parametrize(("worker", "begun"), [("patient", 1), ("hasty", 2)])
def test_sigterm_with_and_without_grace(cell: ModuleType, worker: str, begun: int) -> None:
    tried = try_out(
        cell.Slow,
        activities=[cell.slow],
        kill_at=lambda ledger: ledger.attempts("slow"),
        how="SIGTERM",
        worker=getattr(cell, worker),
        seconds=20,
    )
    assert tried.ended().result == 7
    assert len(tried.attempts("slow")) == begun


@pytest.mark.parametrize(("after", "effects"), [(False, [0]), (True, [0, 0, 0])])
def test_faults_before_and_after_the_effect(
    cell: ModuleType, after: bool, effects: list[int]
) -> None:
    tried = try_out(
        cell.Notes, 1, activities=[cell.note], fault={"note": Fault(times=2, after=after)}
    )
    assert tried.ended().effects() == effects
    assert len(tried.attempts("note")) == 3


def test_ninety_days_pass_in_a_moment(cell: ModuleType) -> None:
    tried = try_out(cell.Waits, 90, skip=timedelta(days=91))
    assert tried.ended().result == "nobody came"
    assert tried.seconds < 5


def test_meanwhile_a_signal(cell: ModuleType) -> None:
    async def say(client: Client, handle: WorkflowHandle) -> str:
        await handle.signal(cell.Waits.say, "hello")
        return (await handle.describe()).id

    tried = try_out(cell.Waits, 90, meanwhile=say)
    assert (tried.ended().result, tried.answer) == ("hello", tried.id)


def test_an_error_meanwhile_is_raised(cell: ModuleType) -> None:
    async def fail(client: Client, handle: WorkflowHandle) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        try_out(cell.Waits, 90, meanwhile=fail)


def test_until_ends_a_try(cell: ModuleType) -> None:
    tried = try_out(
        cell.Notes,
        1,
        activities=[cell.note],
        fault={"note": Fault(times=10**6)},
        until=lambda ledger: len(ledger.attempts("note")) >= 3,
    )
    assert tried.running and tried.seconds < 4
    assert "note has failed" in tried.why and "BenchFault: a fault of the bench" in tried.why
    with pytest.raises(Off, match="the run had not ended"):
        tried.ended()


@pytest.mark.parametrize("process", [False, True])
def test_a_failure_of_the_participants_own(cell: ModuleType, process: bool) -> None:
    tried = try_out(
        cell.Notes, 1, activities=[cell.fail], process=process, until=Ledger.failures, seconds=20
    )
    assert tried.running and tried.seconds < 15
    assert "note has failed " in tried.why
    assert "with ZeroDivisionError: division by zero (line " in tried.why
    assert "of bench_cell.py: return value / 0)" in tried.why


def test_a_run_that_waits_is_ended(cell: ModuleType) -> None:
    tried = try_out(cell.Waits, 90, seconds=0.3)
    assert tried.running and tried.why == "the run waits, and for no activity"
    assert tried.events()[-1] == "WorkflowExecutionTerminated"


@pytest.mark.parametrize("process", [False, True])
def test_a_hung_activity(cell: ModuleType, process: bool) -> None:
    tried = try_out(cell.Notes, 1, activities=[cell.hang], process=process, seconds=0.5)
    assert tried.why == "note is in attempt 1, and has not returned"
    assert tried.hung is not process
    assert try_out(cell.Notes, 1, activities=[cell.note]).ended().result == [0]


def test_an_activity_that_blocks_the_loop(cell: ModuleType) -> None:
    tried = try_out(cell.Notes, 1, activities=[cell.block], seconds=0.3)
    assert tried.running and tried.hung
    assert "note is async and blocks its worker's event loop" in tried.why
    assert try_out(cell.Notes, 1, activities=[cell.note]).ended().result == [0]


def test_a_workflow_that_never_yields(cell: ModuleType) -> None:
    tried = try_out(cell.Spins, process=True, seconds=3)
    assert not tried.result
    assert "the workflow's own code does not return" in str(tried)


WORKER_FAULTS = {
    "import": (
        "raise KeyError('mine')",
        "KeyError: 'mine' (line 2 of worker_cell.py: raise KeyError('mine'))",
    ),
    "exit": ("import sys; sys.exit(4)", "SystemExit: 4"),
    "dies": ("import os; os._exit(5)", "ended by itself, with exit code 5"),
    "signal": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "with signal SIGKILL"),
}


@pytest.mark.parametrize("kind", WORKER_FAULTS)
def test_a_worker_process_that_cannot_begin(
    kind: str, modules: cells.Mine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cell works here, and fails in another process."""
    fails, said = WORKER_FAULTS[kind]
    text = f"if os.getpid() != {os.getpid()}: {fails}\n".replace(": ", ":\n    ", 1)
    cell = modules.keep("worker_cell", "import os\n" + CELL + text)
    tried = try_out(cell.Notes, 1, activities=[cell.note], process=True, seconds=30)
    assert tried.seconds < 20 and tried.history is None
    assert said.split(" (line")[0] in str(tried) and "Traceback" not in str(tried)
    assert "Traceback" not in capsys.readouterr().out


def test_a_worker_process_that_ends_at_work(cell: ModuleType) -> None:
    tried = try_out(cell.Notes, 1, activities=[cell.leave], process=True, seconds=30)
    assert "the worker process ended by itself, with exit code 3" in str(tried)
    assert tried.seconds < 20


def test_what_is_no_workflow_and_no_activity(cell: ModuleType) -> None:
    tried = try_out(int, activities=[cell.note])
    assert "workflow" in str(tried)
    tried = try_out(cell.Notes, 1, activities=[len])
    assert "activity" in str(tried)


def test_an_interrupt_ends_everything(cell: ModuleType, request: pytest.FixtureRequest) -> None:
    # Whatever has started the tests may have ignored Ctrl-C.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, heard))
    timer = threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        try_out(cell.Notes, 1, activities=[cell.hang], process=True, seconds=60)
    timer.join()


def test_replay_says_what_differs(cell: ModuleType, modules: cells.Mine) -> None:
    tried = try_out(cell.Notes, 2, activities=[cell.note]).ended()
    assert tried.history
    assert replay(cell.Notes, tried.history) == ""
    assert replay(cell.Notes, tried.history, hash_seed=1) == ""
    cell = modules.keep("bench_cell", CELL.replace("range(times)", "range(times + 1)"))
    assert "Nondeterminism" in replay(cell.Notes, tried.history)
    assert "Nondeterminism" in replay(cell.Notes, tried.history, hash_seed=1)


LOOK = """
from labkit.bench import Off, cells, try_out
from lessons.debug import look
from tests.bench.test_tries import CELL

modules = cells.open_mine("look")
cell = modules.keep("bench_cell", CELL)
history = try_out(cell.Notes, 2, activities=[cell.note]).ended().history
here = "    async def _note(self, i: int) -> int:\\n"
stopping = CELL.replace(here, f"{here}        breakpoint()\\n")
cell = modules.keep("bench_cell", stopping)
look(cell.Notes, history, "p i", "p workflow.info().workflow_type")
cell = modules.keep("bench_cell", stopping.replace("range(times)", "range(times + 1)"))
try:
    look(cell.Notes, history, "p i")
except Off as err:
    print(err)
"""


def test_look_types_into_the_debugger(temporal: Path) -> None:
    """In a process of its own, as no activity may hang in it."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    done = subprocess.run([sys.executable, "-c", LOOK], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stop = "Stopped in _note.\n(Pdb) p i\n{}\n(Pdb) p workflow.info().workflow_type\n'Notes'\n"
    stop += "(Pdb) continue\n"
    assert f"noted 1\n{stop.format(0)}{stop.format(1)}" in done.stdout
    assert "Nondeterminism" in done.stdout.rsplit("(Pdb) continue", 1)[1]


def test_nobody_looks_while_an_activity_hangs(cell: ModuleType) -> None:
    """CPython 3.11 would trace the same line for ever."""
    history = try_out(cell.Notes, 1, activities=[cell.note]).ended().history
    assert try_out(cell.Notes, 1, activities=[cell.hang], seconds=0.3).hung
    assert history
    with pytest.raises(LabError, match="hangs in a thread"):
        look(cell.Notes, history, "p i")


def test_an_edit_in_the_file_counts(cell: ModuleType, modules: cells.Mine) -> None:
    """Also for a class that was taken before."""
    path = modules.path("bench_cell")
    path.write_text(path.read_text().replace("return value", "return value + 1"))
    for process in (False, True):
        tried = try_out(cell.Notes, 1, activities=[cell.note], process=process)
        assert tried.ended().result == [1]


def test_without_a_server_it_says_so(cell: ModuleType) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(LabError, match="No Temporal server"):
        patch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
        try_out(cell.Notes, 1, activities=[cell.note])


def test_with_client_has_a_limit() -> None:
    async def never(client: Client) -> None:
        await asyncio.Event().wait()

    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        with_client(never, seconds=0.2)
    assert time.monotonic() - begun < 3
    assert Loop.get() is Loop.get()


def test_a_try_tells_what_came_of_it() -> None:
    assert str(Try("x", running=False, result=3)) == "returned 3 after 0.0 s"
