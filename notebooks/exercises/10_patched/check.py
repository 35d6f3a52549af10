"""Insert an activity in front, so that runs from before still replay: a patch."""

import asyncio
from datetime import timedelta
from types import ModuleType

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle, WorkflowHistory

from labkit.bench import Exercise, Try, expect, replay, require, try_out

LIMIT = timedelta(seconds=5)
LONGER = timedelta(days=91)

exercise = Exercise(
    task="Let Order call check_stock before reserve. Three runs from before must still replay.",
    hints=[
        "What is new goes into a branch, which a replay of an old history does not take.",
        'workflow.patched("check-stock") is True in a new run, which leaves a marker. It is False '
        "when a history without that marker is replayed.",
        'if workflow.patched("check-stock"): await workflow.execute_activity(check_stock, …), as '
        "the first thing in run.",
    ],
    right="Keep the branch as long as a run from before may come back. Then deprecate_patch().",
)


@activity.defn
def reserve(item: str) -> str:
    return f"{item} is reserved"


@activity.defn
def charge(item: str) -> str:
    return f"{item} is charged"


@workflow.defn(name="Order")
class Before:
    """The stub's Order, before anybody changes it."""

    def __init__(self) -> None:
        self.paid = False

    @workflow.run
    async def run(self, item: str) -> str:
        await workflow.execute_activity(reserve, item, start_to_close_timeout=LIMIT)
        try:
            await workflow.wait_condition(lambda: self.paid, timeout=timedelta(days=90))
        except TimeoutError:
            return "never paid"
        return await workflow.execute_activity(charge, item, start_to_close_timeout=LIMIT)

    @workflow.signal
    def pay(self) -> None:
        self.paid = True


async def pay(client: Client, handle: WorkflowHandle) -> None:
    await handle.signal("pay")


async def look(client: Client, handle: WorkflowHandle) -> WorkflowHistory:
    """The history as soon as the run waits. Then it may end."""
    while True:
        history = await handle.fetch_history()
        if any(event.HasField("timer_started_event_attributes") for event in history.events):
            await handle.signal("pay")
            return history
        await asyncio.sleep(0.02)


@exercise.shared
def recorded(mine: ModuleType) -> dict[str, WorkflowHistory]:
    """Three runs of the code as it was."""
    steps = [reserve, charge]
    waited = try_out(Before, "tea", activities=steps, meanwhile=look).ended()
    expired = try_out(Before, "tea", activities=steps, skip=LONGER).ended()
    assert waited.history and expired.history
    return {
        "a run that waits": waited.answer,
        "a run that was paid": waited.history,
        "a run that was never paid": expired.history,
    }


@exercise.shared
def new(mine: ModuleType) -> Try:
    steps = [mine.reserve, mine.check_stock, mine.charge]
    return try_out(mine.Order, "tea", activities=steps, meanwhile=pay).ended()


@exercise.case("three runs from before replay")
def old_ones(mine: ModuleType) -> None:
    for name, history in recorded(mine).items():
        said = replay(mine.Order, history)
        require(not said, f"{name}: {said.removeprefix('NondeterminismError: ')}")


@exercise.case("a new run checks the stock first")
def new_one(mine: ModuleType) -> None:
    expect(new(mine).scheduled(), ["check_stock", "reserve", "charge"])
    expect(new(mine).result, "tea is charged")


@exercise.case("and its history replays, too")
def new_replays(mine: ModuleType) -> None:
    history = new(mine).history
    assert history
    said = replay(mine.Order, history)
    require(not said, said)
