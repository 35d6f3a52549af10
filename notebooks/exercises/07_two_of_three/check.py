"""Two of three must approve. Between them the worker is killed."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from threading import Event
from types import ModuleType

from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from labkit.bench import Exercise, Try, expect, replay, require, try_out

ALL = ["Ada", "Ben", "Cleo"]
PAIRS = ["Ada Ben", "Cleo Dan", "Eve Fay", "Gus Hal"]
AFTER_KILL_SECONDS = 0.05  # the server knows by then that nobody polls

exercise = Exercise(
    task="Write a workflow that ends when two of three approvers have approved.",
    hints=[
        "A signal notes what came. The run waits until enough of it is there: "
        "await workflow.wait_condition(lambda: …).",
        "After a crash several signals may come in one workflow task. Keep a list, and look "
        "whether a name is in it already.",
        "if by in self.approvers and by not in self.approved: self.approved.append(by). "
        "Then wait for len(self.approved) >= 2.",
    ],
    right=(
        "The list was never saved. Another worker made it anew from the signals in the history, "
        "in the same order."
    ),
)


def approved(mine: ModuleType, *names: str, approvers: Sequence[str] = ALL) -> list[str]:
    """The result, when these approve one after another."""

    async def approve(client: Client, handle: WorkflowHandle) -> None:
        for name in names:
            await send(handle, name)
            await until_handled(handle)
        await require_ended(handle, *names)

    tried = try_out(mine.TwoOfThree, list(approvers), meanwhile=approve, seconds=2)
    return tried.ended().result


async def send(handle: WorkflowHandle, name: str) -> None:
    with suppress(RPCError):  # it has ended, and the result will tell
        await handle.signal("approve", name)


async def until_handled(handle: WorkflowHandle) -> str:
    """Wait until a worker has dealt with all that came, and return the last event's kind."""
    while True:
        events = (await handle.fetch_history()).events
        kind = str(events[-1].WhichOneof("attributes")).removesuffix("_event_attributes")
        if kind.endswith(("completed", "failed")):
            return kind
        await asyncio.sleep(0.01)


async def require_ended(handle: WorkflowHandle, *names: str) -> None:
    waits = await until_handled(handle) == "workflow_task_completed"
    require(not waits, f"expected the end after {', '.join(names)}, and the run waits on")


@exercise.case("two approve, in any order: the two who did, the first one first")
def any_order(mine: ModuleType) -> None:
    for pair in map(str.split, PAIRS):
        for names in (pair, pair[::-1]):
            expect(approved(mine, *names, approvers=[*pair, "Zoe"]), names)


@exercise.case("the same one twice counts once")
def twice(mine: ModuleType) -> None:
    expect(approved(mine, "Ada", "Ada", "Cleo"), ["Ada", "Cleo"])


@exercise.case("somebody else does not count")
def somebody(mine: ModuleType) -> None:
    expect(approved(mine, "Ada", "Mallory", "Ben"), ["Ada", "Ben"])


@exercise.shared
def killed(mine: ModuleType) -> Try:
    """Cleo approves. The worker is killed. Ada and Cleo approve while there is none."""
    handled, dead = Event(), Event()

    def is_due(ledger: Sequence) -> bool:
        if handled.is_set():
            dead.set()  # in a moment
        return handled.is_set()

    async def approve(client: Client, handle: WorkflowHandle) -> None:
        await send(handle, "Cleo")
        await until_handled(handle)
        handled.set()
        while not dead.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(AFTER_KILL_SECONDS)
        for name in ("Ada", "Cleo"):
            await send(handle, name)
        await require_ended(handle, "Cleo", "Ada", "Cleo")

    tried = try_out(mine.TwoOfThree, ALL, kill_at=is_due, meanwhile=approve, seconds=10)
    expect(tried.ended().result, ["Cleo", "Ada"])
    return tried


@exercise.case("the worker is killed after the first, and nothing is lost")
def nothing_lost(mine: ModuleType) -> None:
    killed(mine)


@exercise.case("the history replays")
def replays(mine: ModuleType) -> None:
    differs = replay(mine.TwoOfThree, killed(mine).history)
    require(not differs, f"expected a replay, got {differs}")
