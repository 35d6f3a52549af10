"""A RetryPolicy for outages: soon back, not too often, and never giving up."""

import itertools
from types import ModuleType

from exercise_shared.policies import attempts, try_policy

from labkit.bench import Exercise, Ledger, Off, Try, require

FIVE_MINUTES, LONGEST_GAP, MOST = 300, 20, 25
OUTAGE = 600

exercise = Exercise(
    task=(
        "Write a RetryPolicy that is back within 20 s of the database, however long it was away, "
        "and makes at most 25 attempts in the first five minutes."
    ),
    hints=[
        "The database may come back just after an attempt. Then the next gap is what you wait.",
        "maximum_interval caps the gaps. Count the attempts of 300 s by hand: 0, 1, 3, 7, …",
        "maximum_attempts stays out of it: an outage may last longer than any number of attempts.",
    ],
    right="With gaps of 20 s an outage of an hour costs 180 attempts, and nobody is woken.",
)


@exercise.shared
def outage(mine: ModuleType) -> Try:
    """Ten minutes, unless it is clear before that it is wrong."""
    return try_policy(mine.policy, until=is_clear)


def is_clear(ledger: Ledger) -> bool:
    came = ledger.attempts("always_fails")
    return bool(came) and (came[-1] >= OUTAGE or len(in_five_minutes(came)) > MOST)


def in_five_minutes(came: list) -> list:
    return [moment for moment in came if moment < FIVE_MINUTES]


@exercise.case("at most 25 attempts in the first five minutes")
def not_too_often(mine: ModuleType) -> None:
    if late := in_five_minutes(attempts(outage(mine)))[MOST:]:
        raise Off(f"expected at most {MOST} attempts, got one more at {late[0]} s")


@exercise.case("from one attempt to the next it is 20 s at most")
def soon(mine: ModuleType) -> None:
    came = attempts(outage(mine))
    gaps = [after - before for before, after in itertools.pairwise(came) if before < OUTAGE]
    require(gaps, f"expected a gap of {LONGEST_GAP} s at most, and no second attempt came")
    # A slow machine makes a single gap longer. Those of a policy never shrink.
    if min(gaps[-3:]) > LONGEST_GAP:
        longer = next(gap for gap in gaps if gap > LONGEST_GAP)
        raise Off(f"expected a gap of {LONGEST_GAP} s at most, got {longer} s")


@exercise.case("it never gives up")
def for_ever(mine: ModuleType) -> None:
    outage(mine)
    most = mine.policy.maximum_attempts
    require(
        not most, f"it gives up after {most} attempts, and the run fails. An outage may last longer"
    )
