"""Workflows that are ill on purpose, and the same ones when they are well. The sandbox is on."""

from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError
from temporalio.workflow import ActivityCancellationType

SOON: dict[str, Any] = {"start_to_close_timeout": timedelta(seconds=10)}


@workflow.defn
class OneActivity:
    """Runs one activity, with the limits that it is given. No limit of attempts is 0."""

    @workflow.run
    async def run(
        self,
        name: str,
        arguments: list[Any],
        limits: dict[str, float],
        attempts: int = 0,
        queue: str = "",
    ) -> Any:
        retry = RetryPolicy(timedelta(seconds=0.2), 1, maximum_attempts=attempts)
        times: dict[str, Any] = {limit: timedelta(seconds=it) for limit, it in limits.items()}
        return await workflow.execute_activity(
            name, args=arguments, task_queue=queue or None, retry_policy=retry, **times
        )


@workflow.defn(name="Report")
class ReportWithBug:
    @workflow.run
    async def run(self, scores: dict[str, float]) -> str:
        return f"accuracy {scores['accuracy']:.2f}"


@workflow.defn(name="Report")
class Report:
    @workflow.run
    async def run(self, scores: dict[str, float]) -> str:
        return f"accuracy {scores.get('accuracy', 0):.2f}"


class Pipeline:
    """Fetches, waits for somebody for thirty days at most, and trains."""

    def __init__(self) -> None:
        self.allowed = False

    @workflow.signal
    def go(self) -> None:
        self.allowed = True

    async def wait_and_train(self) -> str:
        await workflow.wait_condition(lambda: self.allowed, timeout=timedelta(days=30))
        trained: str = await workflow.execute_activity("train", **SOON)
        return trained


@workflow.defn(name="Pipeline")
class Before(Pipeline):
    @workflow.run
    async def run(self) -> str:
        await workflow.execute_activity("fetch", **SOON)
        return await self.wait_and_train()


@workflow.defn(name="Pipeline")
class After(Pipeline):
    """Somebody has put a check before the wait."""

    @workflow.run
    async def run(self) -> str:
        await workflow.execute_activity("fetch", **SOON)
        await workflow.execute_activity("check", **SOON)
        return await self.wait_and_train()


@workflow.defn(name="Pipeline")
class Patched(Pipeline):
    """The check is for runs that have not passed this place yet."""

    @workflow.run
    async def run(self) -> str:
        await workflow.execute_activity("fetch", **SOON)
        if workflow.patched("check"):
            await workflow.execute_activity("check", **SOON)
        return await self.wait_and_train()


@workflow.defn(name="Rows")
class PassesText:
    """Two halves are read, each of them small enough, and given on together."""

    @workflow.run
    async def run(self, path: str) -> Any:
        first = await workflow.execute_activity("read_half", args=[path, 0], **SOON)
        second = await workflow.execute_activity("read_half", args=[path, 1], **SOON)
        return await workflow.execute_activity("count_text", args=[first, second], **SOON)


@workflow.defn(name="Rows")
class PassesPath:
    @workflow.run
    async def run(self, path: str) -> Any:
        return await workflow.execute_activity("count_file", path, **SOON)


@workflow.defn
class Budget:
    """Waits a little, then works. Cleans up when the work fails, if its code is asked at all."""

    @workflow.run
    async def run(
        self, port: int, limits: dict[str, float], pause: float = 0.5, gap: float = 0.2
    ) -> str:
        retry = RetryPolicy(timedelta(seconds=gap), 1)
        times: dict[str, Any] = {limit: timedelta(seconds=it) for limit, it in limits.items()}
        await workflow.sleep(pause)
        try:
            await workflow.execute_activity("log_or_raise", port, retry_policy=retry, **times)
        except ActivityError:
            return "it gave up, and cleaned up"
        return "it worked"


@workflow.defn
class WaitsForCancel:
    """Cancels its activity, and waits until that has ended."""

    @workflow.run
    async def run(self, name: str) -> Any:
        return await workflow.execute_activity(
            name,
            start_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=timedelta(seconds=1),
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )


@workflow.defn
class TidiesUp:
    """Waits for ever. Tidies up when it is told to end."""

    @workflow.run
    async def run(self) -> None:
        try:
            await workflow.wait_condition(lambda: False)
        finally:
            await workflow.execute_activity("tidy_up", workflow.info().workflow_id, **SOON)
