"""Wait for a step, with a limit, and say why it never came."""

import asyncio
from contextlib import suppress
from types import ModuleType
from typing import Any

from exercise_shared.standins import try_pipeline
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from labkit.bench import Exercise, Off, expect, quoted, require, short

STEP = "awaiting_prod_approval"

exercise = Exercise(
    task="Write wait_until(client, id, step, seconds) for the steps of a run.",
    hints=[
        "Ask again and again: the query get_status says current_step. Sleep in between, with "
        "await asyncio.sleep(0.1).",
        "(await handle.describe()).status tells whether the run has ended. A run that the quality "
        "gate stopped is COMPLETED, not FAILED.",
        "Describe first, query then: what the query says is newer. The reason is in the status, "
        "as failure_reason.",
    ],
    right="A wait has a limit, and says why it ended. A closed run answers queries still.",
)


async def asked(mine: ModuleType, client: Client, id: str, step: str, seconds: float) -> Any:
    """What the participant's function returned or raised."""
    limit = asyncio.timeout(seconds + 2)
    try:
        async with limit:
            return await mine.wait_until(client, id, step, seconds)
    except (TimeoutError, RuntimeError) as err:
        late = (
            f"expected an answer after {seconds:g} s, and it still waited after {seconds + 2:g} s"
        )
        require(not limit.expired(), late)
        return err


def on_a_run_that_waits(mine: ModuleType, step: str, seconds: float) -> Any:
    async def ask(client: Client, handle: WorkflowHandle) -> Any:
        answer = await asked(mine, client, handle.id, step, seconds)
        await handle.terminate()
        return answer

    return try_pipeline("good.csv", meanwhile=ask, seconds=15).answer


def on_a_run_that_ended(mine: ModuleType, name: str) -> Any:
    async def ask(client: Client, handle: WorkflowHandle) -> Any:
        with suppress(WorkflowFailureError):
            await handle.result()
        return await asked(mine, client, handle.id, STEP, 1)

    return try_pipeline(name, meanwhile=ask, seconds=15).answer


def says_why(mine: ModuleType, name: str, reason: str) -> None:
    answer = on_a_run_that_ended(mine, name)
    if not isinstance(answer, RuntimeError):
        got = quoted(answer) if isinstance(answer, BaseException) else short(answer)
        raise Off(f"expected a RuntimeError with the reason, got {got}")
    require(reason in str(answer), f"expected the reason {reason!r}, got {short(str(answer))}")


@exercise.case("a good file: the status at the step")
def good(mine: ModuleType) -> None:
    answer = on_a_run_that_waits(mine, STEP, 10)
    if isinstance(answer, BaseException):
        raise Off(f"expected the status, got {quoted(answer)}")
    require(isinstance(answer, dict), f"expected the status, got {short(answer)}")
    expect(answer["current_step"], STEP)


@exercise.case("a bad file: RuntimeError with the gate's reason")
def bad(mine: ModuleType) -> None:
    says_why(mine, "bad.csv", "quality gate")


@exercise.case("a broken file: RuntimeError with the activity's reason")
def broken(mine: ModuleType) -> None:
    says_why(mine, "broken.csv", "InvalidData")


@exercise.case("a step that does not come: TimeoutError")
def waits(mine: ModuleType) -> None:
    answer = on_a_run_that_waits(mine, "prod_deployment", 0.5)
    require(isinstance(answer, TimeoutError), f"expected a TimeoutError, got {short(answer)}")
