"""An activity that fails twice, and works at the third attempt: in each run, on any worker."""

import time
from datetime import timedelta
from types import ModuleType
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy

from labkit.bench import Exercise, Ledger, Off, Try, expect, require, try_out

WORD = "lucky"
GAP_SECONDS = 0.5

exercise = Exercise(
    task="Write an activity third_time(word) that fails twice and works at the third attempt.",
    hints=[
        "An activity fails when it raises an error. Temporal does the rest: no loop in it.",
        "Who counts? Not a variable: the next run, or another worker, would go on with it. "
        "The server does.",
        "activity.info().attempt is 1 in the first attempt.",
    ],
    right="The server counts, so the number is right on each worker and in each run.",
)


@workflow.defn
class Asks:
    @workflow.run
    async def run(self, word: str, gap_seconds: float) -> str:
        return await workflow.execute_activity(
            "third_time",
            word,
            result_type=str,
            start_to_close_timeout=timedelta(seconds=3),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=gap_seconds), backoff_coefficient=1
            ),
        )


def asked(mine: ModuleType, gap_seconds: float = 0.02, **options: Any) -> Try:
    # One attempt too many is enough to know.
    options = {"until": lambda ledger: len(ledger.attempts("third_time")) > 3} | options
    return try_out(Asks, WORD, gap_seconds, activities=[mine.third_time], **options)


def require_three(tried: Try) -> None:
    count = len(tried.attempts("third_time"))
    if count > 3:
        raise Off(f"expected 3 attempts, got a fourth, after {tried.ledger.failures()[-1]}")
    tried.ended()
    require(count == 3, f"expected 3 attempts, got {count}: the first two raise an error")
    expect(tried.result, WORD)


@exercise.shared
def first(mine: ModuleType) -> None:
    require_three(asked(mine))


@exercise.case("it fails twice, and the third attempt returns the word")
def works(mine: ModuleType) -> None:
    first(mine)


@exercise.case("the next run needs three attempts again")
def works_again(mine: ModuleType) -> None:
    first(mine)
    require_three(asked(mine))


def has_failed(ledger: Ledger) -> bool:
    """Once, and the server knows it."""
    failed = [line["time"] for line in ledger if line["kind"] == "failure"]
    return bool(failed) and time.time() - failed[0] > GAP_SECONDS / 3


@exercise.case("another worker makes the second attempt: three as well")
def works_elsewhere(mine: ModuleType) -> None:
    first(mine)
    require_three(asked(mine, GAP_SECONDS, kill_at=has_failed, seconds=15))
