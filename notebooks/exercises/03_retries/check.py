"""A RetryPolicy with attempts at 0, 1, 3 and 7 s, then no more."""

from types import ModuleType

from exercise_shared.policies import attempts, try_policy

from labkit.bench import Exercise, Try, expect, require

WANTED = [0, 1, 3, 7]

exercise = Exercise(
    task="Write a RetryPolicy with attempts at 0, 1, 3 and 7 s, then no more.",
    hints=[
        "Between the attempts lie 1, 2 and 4 s: each wait is twice the one before.",
        "initial_interval, backoff_coefficient and maximum_attempts. The first attempt counts.",
    ],
    right="The bench moved the run's own clock, so the seven seconds took none of yours.",
)


@exercise.shared
def tried(mine: ModuleType) -> Try:
    # One attempt too many is enough to know.
    return try_policy(mine.policy, until=lambda ledger: len(ledger.attempts("always_fails")) > 4)


@exercise.case("attempts at 0, 1, 3 and 7 s")
def comes_at(mine: ModuleType) -> None:
    expect(attempts(tried(mine))[:4], WANTED)


@exercise.case("no fifth attempt")
def ends(mine: ModuleType) -> None:
    came = attempts(tried(mine))[:5]  # the bench may come late to end it
    require(len(came) <= 4, f"expected 4 attempts, got a fifth at {came[-1]} s")
