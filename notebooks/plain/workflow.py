"""The order of things. This code is replayed, so it must be deterministic."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    import activities

MINUTE = {"start_to_close_timeout": timedelta(minutes=1)}
BEATS = {"heartbeat_timeout": timedelta(seconds=30)}


@workflow.defn
class Pipeline:
    def __init__(self) -> None:
        self.approved: bool | None = None

    @workflow.signal
    def decide(self, approved: bool) -> None:
        self.approved = approved

    @workflow.run
    async def run(self, csv_path: str) -> str:
        no_use = RetryPolicy(non_retryable_error_types=["TooShort"])
        model = await workflow.execute_activity(
            activities.train, csv_path, retry_policy=no_use, **MINUTE, **BEATS
        )
        await workflow.execute_activity(activities.record, model, **MINUTE)
        try:  # the worker may be restarted while this waits
            await workflow.wait_condition(
                lambda: self.approved is not None, timeout=timedelta(days=30)
            )
        except TimeoutError:
            return "nobody decided"
        if self.approved:
            return await workflow.execute_activity(activities.deploy, model, **MINUTE)
        return "rejected"
