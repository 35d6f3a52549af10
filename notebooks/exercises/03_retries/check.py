"""A RetryPolicy with attempts at 0, 1, 3 and 7 s, then no more."""

from datetime import timedelta
from types import ModuleType

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from labkit.bench import Exercise, Try, expect, require, try_out

WANTED = [0, 1, 3, 7]

exercise = Exercise(
    task="Write a RetryPolicy with attempts at 0, 1, 3 and 7 s, then no more.",
    hints=[
        "Between the attempts lie 1, 2 and 4 s: each wait is twice the one before.",
        "initial_interval, backoff_coefficient and maximum_attempts. The first attempt counts.",
    ],
    right="The bench moved the run's own clock, so the seven seconds took none of yours.",
)


@activity.defn
def always_down() -> None:
    raise OSError("down")


@workflow.defn
class Retried:
    """Calls an activity under a policy, which travels in parts."""

    @workflow.run
    async def run(self, initial: float, coefficient: float, longest: float, attempts: int) -> None:
        await workflow.execute_activity(
            always_down,
            start_to_close_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=initial),
                backoff_coefficient=coefficient,
                maximum_interval=timedelta(seconds=longest) if longest else None,
                maximum_attempts=attempts,
            ),
        )


@exercise.shared
def tried(mine: ModuleType) -> Try:
    policy = mine.policy
    require(isinstance(policy, RetryPolicy), f"expected a RetryPolicy, got {policy!r}")
    return try_out(
        Retried,
        policy.initial_interval.total_seconds(),
        policy.backoff_coefficient,
        policy.maximum_interval.total_seconds() if policy.maximum_interval else 0,
        policy.maximum_attempts,
        activities=[always_down],
        skip=timedelta(seconds=60),
        until=lambda ledger: (
            len(ledger.attempts("always_down")) > len(WANTED)
        ),  # one too many is enough to know
    )


def attempts(mine: ModuleType) -> list[int]:
    return [round(moment) for moment in tried(mine).attempts("always_down")][: len(WANTED) + 1]


@exercise.case("attempts at 0, 1, 3 and 7 s")
def comes_at(mine: ModuleType) -> None:
    expect(attempts(mine)[:4], WANTED)


@exercise.case("no fifth attempt")
def ends(mine: ModuleType) -> None:
    came = attempts(mine)
    require(len(came) <= 4, f"expected 4 attempts, got a fifth at {came[-1]} s")
