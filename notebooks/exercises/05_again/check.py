"""Run a failed workflow again from where it stopped, with the SDK."""

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import ModuleType

import psycopg2
from exercise_shared.postgres import tables
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from labkit.bench import Exercise, Try, effect, quoted, require, try_out
from labkit.bench.database import connect_postgres, refusal

SECONDS = 5
SHORT, LONG = 1, 3  # activities before the training

exercise = Exercise(
    task="Write again(client, id): run a failed workflow again, from just before what failed.",
    hints=[
        'Look at history.to_json_dict()["events"], as in notebook 00. One of them is an '
        "EVENT_TYPE_ACTIVITY_TASK_FAILED. Event n is events[n - 1].",
        'Its "activityTaskFailedEventAttributes" know the "scheduledEventId". That event is of '
        "the type EVENT_TYPE_ACTIVITY_TASK_SCHEDULED.",
        'int(scheduled["activityTaskScheduledEventAttributes"]["workflowTaskCompletedEventId"]) '
        "is where to reset to.",
    ],
    right=(
        "A reset copies the history up to a workflow task, and lets it be taken again. What was "
        "done before is in the copy, so it is not done again."
    ),
)


@activity.defn
def prepare(number: int) -> None:
    effect("prepared")


@activity.defn
def train() -> None:
    effect("trained")


@workflow.defn
class Pipeline:
    @workflow.run
    async def run(self, before: int) -> str:
        limit = timedelta(seconds=5)
        for number in range(before):
            await workflow.execute_activity(prepare, number, start_to_close_timeout=limit)
        await workflow.execute_activity(train, start_to_close_timeout=limit)
        await workflow.execute_activity("log_result", start_to_close_timeout=limit)
        return "logged"


def logs_with(changed: dict[str, str]) -> Callable[[], None]:
    """The activity that connects with what is in the dictionary at that moment."""

    @activity.defn
    def log_result() -> None:
        try:
            connect_postgres(**changed).close()
        except psycopg2.OperationalError as err:
            raise ApplicationError(
                str(err).strip(), type="InvalidPassword", non_retryable=True
            ) from None
        effect("logged")

    return log_result


def run_again(mine: ModuleType, before: int) -> Try:
    """Fail at a wrong password, set it right, and ask the participant's function."""
    require(
        inspect.iscoroutinefunction(mine.again), "again is no coroutine function: use async def"
    )
    with tables():  # PostgreSQL answers, and takes one password only
        refusal(password="wrong")
    changed = {"password": "wrong"}

    async def ask(client: Client, handle: WorkflowHandle) -> str:
        with suppress(WorkflowFailureError):
            await handle.result()
        changed.clear()
        try:
            await mine.again(client, handle.id)
            return await outcome(client, handle)
        finally:
            with suppress(RPCError):  # it has ended, as a rule
                await client.get_workflow_handle(handle.id).terminate()

    activities = [prepare, train, logs_with(changed)]
    tried = try_out(Pipeline, before, activities=activities, meanwhile=ask, seconds=3 * SECONDS)
    require(tried.answer is not None, f"again had not returned after {3 * SECONDS} s")
    return tried


async def outcome(client: Client, first: WorkflowHandle) -> str:
    """What is wrong with the newest run of the id; nothing when it ended well."""
    newest = client.get_workflow_handle(first.id)
    if (await newest.describe()).run_id == first.result_run_id:
        return "there is no new run"
    try:
        await asyncio.wait_for(newest.result(), SECONDS)
    except TimeoutError:
        return f"the new run had not ended after {SECONDS} s"
    except WorkflowFailureError as err:
        return f"the new run failed as well: {quoted(err)}"
    return ""


def require_well(tried: Try) -> Try:
    require(not tried.answer, tried.answer)
    return tried


def require_once(tried: Try, before: int) -> None:
    done = tried.effects()
    trained = done.count("trained")
    require(trained == 1, f"expected 1 training, got {trained}")
    prepared = done.count("prepared")
    require(prepared == before, f"expected {before} of prepare, got {prepared}")
    logged = done.count("logged")
    require(logged == 1, f"expected 1 of log_result, got {logged}")


@exercise.shared
def short_run(mine: ModuleType) -> Try:
    return require_well(run_again(mine, SHORT))


@exercise.case("the run goes on, and ends well")
def ends_well(mine: ModuleType) -> None:
    short_run(mine)


@exercise.case("trained once, in both runs together")
def trained_once(mine: ModuleType) -> None:
    require_once(short_run(mine), SHORT)


@exercise.case("a longer run, too")
def longer(mine: ModuleType) -> None:
    short_run(mine)
    require_once(require_well(run_again(mine, LONG)), LONG)
