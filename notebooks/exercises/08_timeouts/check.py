"""Timeouts: an attempt that hangs is noticed soon, and one that is healthy is left alone."""

from datetime import timedelta
from types import ModuleType
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy

from labkit.bench import Exercise, Ledger, Off, Try, require, short, try_out

HANGS_AT = 5
NOTICED_SECONDS = 1.5
SLACK_SECONDS = 0.6  # the next attempt waits for a tenth of it, and machines are slow

exercise = Exercise(
    task=(
        "Choose timeouts so that a hang is noticed within a second and a half, and a healthy "
        "attempt of three seconds is left alone."
    ),
    hints=[
        "Start-to-close counts the whole attempt, so it is the wrong clock for a hang. Which "
        "timeout counts from the last sign of life?",
        "A heartbeat_timeout needs heartbeats: call activity.heartbeat() where the work goes on, "
        "so that they stop when it stops.",
        'activity.heartbeat(step) in the loop, and "heartbeat_timeout": timedelta(seconds=1).',
    ],
    right=(
        "The heartbeat timeout says how soon you know. Start-to-close says how long an attempt may "
        "take at most. Neither can do the other's work."
    ),
)


@workflow.defn
class Trains:
    """Two activities, one ill and one healthy. The run ends with the healthy one."""

    @workflow.run
    async def run(self, options: dict[str, float]) -> None:
        given: dict[str, Any] = {name: timedelta(seconds=x) for name, x in options.items()}
        given["retry_policy"] = RetryPolicy(initial_interval=timedelta(milliseconds=50))
        workflow.start_activity("train", HANGS_AT, activity_id="ill", **given)
        await workflow.execute_activity("train", -1, activity_id="healthy", **given)


@exercise.shared
def trained(mine: ModuleType) -> Try:
    """Both, in one worker process, unless the healthy one is given up before."""
    options = mine.options
    right = isinstance(options, dict) and all(isinstance(x, timedelta) for x in options.values())
    require(right, f"expected timedeltas by their names in options, got {short(options)}")
    seconds = {name: x.total_seconds() for name, x in options.items()}
    return try_out(
        Trains,
        seconds,
        activities=[mine.train],
        process=True,
        until=lambda ledger: len(begun(ledger, "healthy")) > 1,
        seconds=8,
    )


def begun(ledger: Ledger, id: str) -> list[float]:
    """When the attempts of this activity began."""
    return [line["time"] for line in ledger if (line["kind"], line["id"]) == ("attempt", id)]


@exercise.case("an attempt of three seconds is left alone")
def healthy(mine: ModuleType) -> None:
    tried = trained(mine)
    came = begun(tried.ledger, "healthy")
    if len(came) > 1:
        raise Off(f"it was given up after {came[1] - came[0]:.1f} s, and another one came")
    tried.ended()


@exercise.case("a hang is followed by another attempt within a second and a half")
def noticed(mine: ModuleType) -> None:
    tried = trained(mine)
    came = begun(tried.ledger, "ill")
    if len(came) < 2:
        tried.ended()
        raise Off("no other attempt came while the healthy one ran")
    after = came[1] - came[0] - HANGS_AT / 10
    require(after < NOTICED_SECONDS + SLACK_SECONDS, f"another attempt came after {after:.1f} s")
    require(after > 0, f"it was given up before it hung, {came[1] - came[0]:.1f} s after it began")
