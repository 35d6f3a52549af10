"""Which process ran the activity? The event history names it."""

import time
from datetime import timedelta
from types import ModuleType

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from labkit.bench import Exercise, Try, require, short, try_out

exercise = Exercise(
    task="Write who_ran(history): the worker that ran the activity, as the history names it.",
    hints=[
        "Print the events, or look at a run in the Web UI: which one tells that a worker began?",
        "Look for the eventType EVENT_TYPE_ACTIVITY_TASK_STARTED.",
        'event["activityTaskStartedEventAttributes"]["identity"]',
    ],
    right="The server knows who did what. It never sees your code, only names, inputs and results.",
)


@activity.defn
def say(slow: bool) -> str:
    if slow and activity.info().attempt == 1:
        time.sleep(60)  # the bench kills the worker in here
    return "hello"


@workflow.defn
class Says:
    @workflow.run
    async def run(self, slow: bool) -> str:
        return await workflow.execute_activity(
            say,
            slow,
            start_to_close_timeout=timedelta(seconds=1),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
        )


def is_named(mine: ModuleType, tried: Try) -> None:
    """The last process that began the activity is the one that ended it."""
    answer = mine.who_ran(tried.ended().history)
    require(
        isinstance(answer, str) and "@" in answer,
        f"expected a name such as '4711@my-laptop', got {short(answer)}",
    )
    pid = str(tried.ledger.pids()[-1])
    require(answer.split("@")[0] == pid, f"expected worker {pid}@…, got {short(answer)}")


@exercise.case("this kernel's run")
def this_kernel(mine: ModuleType) -> None:
    is_named(mine, try_out(Says, False, activities=[say]))


@exercise.case("a worker process's run, after another process was killed")
def took_over(mine: ModuleType) -> None:
    is_named(mine, try_out(Says, True, activities=[say], kill_at=has_begun, seconds=15))


def has_begun(ledger: list) -> bool:
    return bool(ledger)
