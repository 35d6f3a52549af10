from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from labkit.bench import effect, work


@activity.defn
def count_to(n: int) -> int: ...  # effect(i) for each i from 0 to n - 1, and work(0.03)


@workflow.defn
class Count:
    @workflow.run
    async def run(self, n: int) -> int:
        return await workflow.execute_activity(
            count_to,
            n,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=1),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100)),
        )
