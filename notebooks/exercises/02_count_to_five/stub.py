from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from labkit.bench import effect

# A worker that dies is noticed after a second, and the next attempt follows at once.
OPTIONS = {
    "start_to_close_timeout": timedelta(seconds=1),
    "retry_policy": RetryPolicy(initial_interval=timedelta(milliseconds=50)),
}


@activity.defn
def note(number: int) -> None:
    effect(number)


@workflow.defn
class CountToFive:
    @workflow.run
    async def run(self) -> None: ...  # notes 1, 2, 3, 4 and 5, one after another
