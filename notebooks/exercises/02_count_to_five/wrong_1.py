"""One activity counts to five, so a crash in it repeats what came before.

The check says: expected five calls of note in the history, got 1
"""

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
def note(last: int) -> None:
    for number in range(1, last + 1):
        effect(number)


@workflow.defn
class CountToFive:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(note, 5, **OPTIONS)
