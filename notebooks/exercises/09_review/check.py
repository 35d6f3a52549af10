"""A review: a training worker of forty lines with three faults."""

import asyncio
import tempfile
import time
from types import ModuleType

from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import CancelledError

from labkit.bench import Exercise, Ledger, Off, Try, require, try_out

STEPS, KILLED_AFTER = 20, 14
NOTICED_SECONDS = 2.0
SLACK_SECONDS = 0.6
CANCEL_AFTER = 5

exercise = Exercise(
    task=(
        "Review this worker, and find three faults: one shows when its process is killed at step "
        "14, one when it goes on after that, and one when it is cancelled."
    ),
    hints=[
        "Killed: nobody misses its heartbeats, because the workflow waits for none. Which timeout "
        "is not there?",
        "Going on: sorted() compares names as text, and step-9.txt comes after step-13.txt. "
        "Compare numbers.",
        "Cancelled: a heartbeat is answered with an exception in the activity's thread, unless "
        "its decorator says otherwise.",
    ],
    right=(
        "None of the three shows on a good day. A reviewer asks: what if it dies here, what if it "
        "comes back, what if somebody says stop?"
    ),
)


def is_forgotten(ledger: Ledger) -> bool:
    """Nothing has happened for so long that the next attempt is late."""
    return bool(ledger) and time.time() - ledger[-1]["time"] > NOTICED_SECONDS + SLACK_SECONDS


@exercise.shared
def killed(mine: ModuleType) -> Try:
    with tempfile.TemporaryDirectory() as folder:
        return try_out(
            mine.Training,
            folder,
            STEPS,
            activities=[mine.train],
            kill_at=KILLED_AFTER,
            until=is_forgotten,
            seconds=10,
        )


@exercise.case("killed at step 14: another attempt comes within two seconds")
def noticed(mine: ModuleType) -> None:
    tried = killed(mine)
    begun = [line["time"] for line in tried.ledger if line["kind"] == "attempt"]
    if len(begun) < 2:
        if tried.failure:
            tried.ended()
        raise Off("no other attempt came: the server does not miss the first one")
    last = max(x["time"] for x in tried.ledger if x["kind"] == "effect" and x["time"] < begun[1])
    late = begun[1] - last
    require(late < NOTICED_SECONDS + SLACK_SECONDS, f"the other one came {late:.1f} s later")


@exercise.case("killed at step 14: no step is trained twice, and none is left out")
def goes_on(mine: ModuleType) -> None:
    tried = killed(mine)
    steps = tried.effects("train")
    twice = sorted({step for step in steps if steps.count(step) > 1})
    require(not twice, f"these were trained twice: {twice}")
    missing = sorted(set(range(STEPS)) - set(steps))
    require(not missing, f"these were never trained: {missing}")
    tried.ended()


@exercise.shared
def cancelled(mine: ModuleType) -> Try:
    async def cancel(client: Client, handle: WorkflowHandle) -> None:
        while not (await handle.describe()).raw_description.pending_activities:
            await asyncio.sleep(0.01)
        await asyncio.sleep(CANCEL_AFTER * 0.03)
        await handle.cancel()

    with tempfile.TemporaryDirectory() as folder:
        return try_out(mine.Training, folder, STEPS, activities=[mine.train], meanwhile=cancel)


@exercise.case("cancelled in the middle: it stops, and the run is cancelled")
def stops(mine: ModuleType) -> None:
    tried = cancelled(mine)
    trained = len(tried.effects("train"))
    require(trained < STEPS, f"it trained all {STEPS} steps")
    stopped = isinstance(tried.failure, CancelledError)
    require(stopped, f"it stopped after {trained} steps, and the run {tried}")
