"""A test of an expiry after 90 days, which takes a moment, and fails on what is wrong."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from types import ModuleType
from uuid import uuid4

from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

from labkit.bench import Exercise, Off, quoted, require, with_client
from labkit.bench.tryworker import sandbox

SECONDS, MOST_SECONDS = 2, 15

exercise = Exercise(
    task="Write a test that passes when the run expires after 90 days, and fails otherwise.",
    hints=[
        "A test of a deadline looks twice: shortly before it, and shortly after it.",
        "fast_forward moves the run's clock on from where it is. Days add up.",
        "Forward 89 days: it must be RUNNING. Forward two more: it must be COMPLETED, with "
        '"expired" as its result.',
    ],
    right="It took a second. A test that cannot fail on a wrong workflow proves nothing.",
)


class Review:
    """Each of these is the same workflow, but for its days and its last word."""

    async def wait(self, time: timedelta, said: str = "expired") -> str:
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: False, timeout=time)
        return said


@workflow.defn(name="Review")
class Right(Review):
    @workflow.run
    async def run(self) -> str:
        return await self.wait(timedelta(days=90))


@workflow.defn(name="Review")
class NineWeeks(Review):
    @workflow.run
    async def run(self) -> str:
        return await self.wait(timedelta(weeks=9))


@workflow.defn(name="Review")
class Long(Review):
    @workflow.run
    async def run(self) -> str:
        return await self.wait(timedelta(days=900))


@workflow.defn(name="Review")
class FourMonths(Review):
    @workflow.run
    async def run(self) -> str:
        return await self.wait(timedelta(days=120))


@workflow.defn(name="Review")
class Approves(Review):
    @workflow.run
    async def run(self) -> str:
        return await self.wait(timedelta(days=90), "approved")


def outcome(mine: ModuleType, code: type) -> BaseException | None:
    """What the participant's test says of a run of this code; None when it passes."""

    async def judge(client: Client) -> BaseException | None:
        queue = f"test-{uuid4().hex[:12]}"
        async with Worker(
            client, task_queue=queue, workflows=[code], workflow_runner=sandbox([code])
        ):
            run = await client.start_workflow("Review", id=queue, task_queue=queue)
            try:
                async with asyncio.timeout(SECONDS):
                    await mine.test_it_expires(client, run)
            except (Exception, asyncio.CancelledError) as err:
                return err
            finally:
                if (await run.describe()).status.name == "RUNNING":
                    await run.terminate()
        return None

    return with_client(judge, MOST_SECONDS)


def refuses(mine: ModuleType, code: type) -> None:
    said = outcome(mine, code)
    require(said, "expected an AssertionError, your test passed")
    if not isinstance(said, (AssertionError, TimeoutError)):
        raise Off(f"expected an AssertionError, got {quoted(said)}")


@exercise.case("the right run passes")
def passes(mine: ModuleType) -> None:
    said = outcome(mine, Right)
    require(not said, f"expected it to pass, got {quoted(said)}" if said else "")


@exercise.case("a run that expires after nine weeks")
def too_early(mine: ModuleType) -> None:
    refuses(mine, NineWeeks)


@exercise.case("a run that waits for 900 days")
def too_late(mine: ModuleType) -> None:
    refuses(mine, Long)


@exercise.case("a run that waits for 120 days")
def a_month_late(mine: ModuleType) -> None:
    refuses(mine, FourMonths)


@exercise.case("a run that says approved in place of expired")
def another_word(mine: ModuleType) -> None:
    refuses(mine, Approves)
