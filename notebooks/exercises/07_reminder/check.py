"""A reminder at half of the deadline. The run's own clock is moved on."""

import asyncio
from datetime import timedelta
from types import ModuleType

from temporalio.client import Client, WorkflowHandle
from temporalio.testing import TimeSkipper

from labkit.bench import Exercise, Try, expect, require, try_out

DEADLINE = timedelta(minutes=30)
HEED_SECONDS = 1

exercise = Exercise(
    task="Send a reminder when half of the deadline has passed, and none when it was decided.",
    hints=[
        "Wait twice, for half of the deadline each. What lies between the two?",
        "A workflow sends nothing itself: await workflow.execute_activity(remind, …), after the "
        "first half and only when nobody has approved.",
        'half = DEADLINE / 2; if await self._approved_within(half): return "approved"; then the '
        "activity; then the same wait for DEADLINE - half.",
    ],
    right=(
        "Each wait is a timer on the server. No process has to live for it, whether it is half an "
        "hour or half a year."
    ),
)


def asked(mine: ModuleType, *steps: float, decide: bool) -> Try:
    """Move the clock by these parts of the deadline, one after another, and then decide or not."""

    async def wait_and_decide(client: Client, handle: WorkflowHandle) -> None:
        for step in steps:
            await TimeSkipper(client).fast_forward(handle, DEADLINE * step)
        if decide:
            await handle.signal("approve")
            await ended(client, handle)

    return try_out(
        mine.Asks, activities=[mine.remind], meanwhile=wait_and_decide, seconds=3
    ).ended()


async def ended(client: Client, handle: WorkflowHandle) -> None:
    """Wait until it has ended; one that does not heed the decision ends after its deadline."""
    try:
        await asyncio.wait_for(handle.result(), HEED_SECONDS)
    except TimeoutError:
        await TimeSkipper(client).fast_forward(handle, DEADLINE * 2)


def require_reminders(tried: Try, count: int, result: str) -> None:
    reminders = "1 reminder" if count == 1 else f"{count} reminders"
    got = len(tried.effects("remind"))
    require(got == count, f"expected {reminders}, got {got}")
    expect(tried.result, result)


def minutes(tried: Try, kind: str) -> int:
    """When an event of this kind came, in minutes after the beginning, by the run's own clock."""
    moment = tried.history.events[tried.events().index(kind)].event_time.ToDatetime()
    return round((moment - tried.history.events[0].event_time.ToDatetime()).total_seconds() / 60)


@exercise.shared
def expired(mine: ModuleType) -> Try:
    return asked(mine, 2, decide=False)


@exercise.case("decided at once: no reminder")
def at_once(mine: ModuleType) -> None:
    require_reminders(asked(mine, decide=True), 0, "approved")


@exercise.case("decided after a quarter of the deadline: no reminder")
def early(mine: ModuleType) -> None:
    require_reminders(asked(mine, 1 / 4, decide=True), 0, "approved")


@exercise.case("nobody decides: one reminder, at half of the deadline")
def reminded(mine: ModuleType) -> None:
    require_reminders(expired(mine), 1, "expired")
    got = minutes(expired(mine), "ActivityTaskScheduled")
    require(got == 15, f"expected the reminder at 15 minutes, got it at {got}")


@exercise.case("nobody decides: it expires at the deadline")
def expires(mine: ModuleType) -> None:
    got = minutes(expired(mine), "WorkflowExecutionCompleted")
    require(got == 30, f"expected the end at 30 minutes, got it at {got}")


@exercise.case("decided after the reminder: it counts")
def late(mine: ModuleType) -> None:
    require_reminders(asked(mine, 5 / 8, 1 / 8, decide=True), 1, "approved")
