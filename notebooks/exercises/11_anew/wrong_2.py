"""What the new run is not told, it does not know.

The check says: comes back: expected 25, got 5
"""

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from labkit.bench import effect, work

OPTIONS = {
    "start_to_close_timeout": timedelta(seconds=1),
    "retry_policy": RetryPolicy(initial_interval=timedelta(milliseconds=50)),
}


@activity.defn
def train(name: str) -> None:
    effect(name)
    work(0.01)


@workflow.defn
class Anew:
    @workflow.run
    async def run(self, names: list[str], done: int = 0) -> int:
        """Trains one after another, and returns how many in all. No run trains more than ten."""
        for name in names[:10]:
            await workflow.execute_activity(train, name, **OPTIONS)
        done += len(names[:10])
        if names[10:]:
            workflow.continue_as_new(args=[names[10:]])
        return done
