from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from labkit.bench import effect, work


@activity.defn
def count_to(n: int) -> int:
    details = activity.info().heartbeat_details
    done = details[0] if details else 0
    for i in range(done, n):
        effect(i)
        activity.heartbeat(i + 1)
        work(0.03)
    return n


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
