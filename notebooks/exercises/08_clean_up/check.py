"""Clean up on cancel, and end gracefully on SIGTERM."""

import asyncio
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import CancelledError
from temporalio.workflow import ActivityCancellationType

from labkit.bench import Exercise, Ledger, Try, expect, require, try_out

LINES = [str(number) for number in range(20)]
MIDDLE_SECONDS = 0.4

exercise = Exercise(
    task=(
        "Let write leave no half-written file when it is cancelled, and let the worker finish it "
        "when it is asked to stop."
    ),
    hints=[
        "A cancellation comes as the answer to a heartbeat, and then as an error in the middle of "
        "your code. try: … finally: … sees it.",
        "Write to another name, and rename the whole file at the end: Path.replace. In finally, "
        "unlink what is still there.",
        "Worker(client, graceful_shutdown_timeout=timedelta(seconds=5), **options) lets running "
        "activities end before they are cancelled.",
    ],
    right=(
        "A deployment that stops workers with SIGTERM costs no attempt, as long as the grace is "
        "longer than the work. SIGKILL gives nobody time: for that there are heartbeats."
    ),
)


@workflow.defn
class Writes:
    """Waits for the activity also when it is cancelled, so that the clean-up has ended."""

    @workflow.run
    async def run(self, path: str) -> None:
        await workflow.execute_activity(
            "write",
            path,
            start_to_close_timeout=timedelta(seconds=10),
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


def write(mine: ModuleType, **options: Any) -> tuple[Try, dict[str, list[str]]]:
    """A try, and the files that it leaves with their lines."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.txt"
        tried = try_out(Writes, str(path), activities=[mine.write], **options)
        return tried, {x.name: x.read_text().splitlines() for x in Path(folder).iterdir()}


def is_in_the_middle(ledger: Ledger) -> bool:
    return bool(ledger) and time.time() > ledger[0]["time"] + MIDDLE_SECONDS


@exercise.shared
def undisturbed(mine: ModuleType) -> None:
    tried, files = write(mine)
    tried.ended()
    expect(files, {"lines.txt": LINES})


@exercise.case("undisturbed: one file with twenty lines")
def whole(mine: ModuleType) -> None:
    undisturbed(mine)


@exercise.shared
def cancelled(mine: ModuleType) -> tuple[Try, dict[str, list[str]]]:
    undisturbed(mine)

    async def cancel(client: Client, handle: WorkflowHandle) -> None:
        while not await has_begun(handle):
            await asyncio.sleep(0.01)
        await asyncio.sleep(MIDDLE_SECONDS)
        await handle.cancel()

    return write(mine, meanwhile=cancel)


async def has_begun(handle: WorkflowHandle) -> bool:
    pending = (await handle.describe()).raw_description.pending_activities
    return any(activity.HasField("last_started_time") for activity in pending)


@exercise.case("cancelled in the middle: nothing is left")
def nothing_left(mine: ModuleType) -> None:
    _, files = cancelled(mine)
    require(files != {"lines.txt": LINES}, "the activity wrote on to its end")
    require(not files, f"expected no file, got {sorted(files)}")


@exercise.case("cancelled in the middle: the run says so")
def says_so(mine: ModuleType) -> None:
    tried, _ = cancelled(mine)
    is_cancelled = isinstance(tried.failure, CancelledError)
    require(is_cancelled, f"expected a cancelled run, and it {tried}")


@exercise.shared
def terminated(mine: ModuleType) -> tuple[Try, dict[str, list[str]]]:
    undisturbed(mine)
    tried, files = write(
        mine, worker=mine.make_worker, kill_at=is_in_the_middle, how="SIGTERM", seconds=8
    )
    tried.ended()
    return tried, files


@exercise.case("its worker gets SIGTERM in the middle: one attempt")
def one_attempt(mine: ModuleType) -> None:
    attempts = len(terminated(mine)[0].attempts("write"))
    require(attempts == 1, f"expected 1 attempt, got {attempts}")


@exercise.case("its worker gets SIGTERM in the middle: one file with twenty lines")
def whole_all_the_same(mine: ModuleType) -> None:
    expect(terminated(mine)[1], {"lines.txt": LINES})
