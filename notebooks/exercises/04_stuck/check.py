"""Find the runs that Temporal tries again and again, from what the server says of them."""

import asyncio
import inspect
from datetime import timedelta
from types import ModuleType

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from labkit.bench import Exercise, Off, require, short, try_out

SECONDS = 10
IDLE = 40  # activities of one run that nobody takes
SOON, LATE = timedelta(milliseconds=10), timedelta(hours=1)

# Name of a run: failures of its activity, what it does then, and idle activities beside it.
RUNS: dict[str, tuple[int, str, int]] = {
    "waits_after_3": (3, "waits", 0),
    "waits_after_5": (5, "waits", 0),
    "runs_after_3": (3, "runs", 0),
    "one_of_many": (3, "waits", IDLE),
    "waits_after_2": (2, "waits", 0),
    "runs_after_2": (2, "runs", 0),
    "works_after_3": (3, "works", 0),
}

exercise = Exercise(
    task="Write stuck(client): the ids of runs with an activity that has failed three times.",
    hints=[
        "client.list_workflows(\"ExecutionStatus = 'Running'\") gives runs, with async for. The "
        "history knows nothing of an attempt that will be retried. Ask describe().",
        "(await client.get_workflow_handle(id).describe()).raw_description.pending_activities",
        "Each of them has an attempt: the one that runs, or comes next. After three failures it "
        "is 4, and it goes on growing.",
    ],
    right="No run failed, and no log is needed: this is the list that an alert should watch.",
)


@activity.defn
async def down(failures: int, then: str) -> None:
    """Fails so many times; then it works, runs on, or waits an hour for the next attempt."""
    attempt = activity.info().attempt
    if attempt > failures:
        if then == "runs":
            await asyncio.Event().wait()
        return
    last = then == "waits" and attempt == failures
    raise ApplicationError("connection refused", next_retry_delay=LATE if last else SOON)


@workflow.defn
class Stuck:
    @workflow.run
    async def run(self, failures: int, then: str, idle: int) -> None:
        for _ in range(idle):
            workflow.start_activity(
                down, args=[0, "works"], task_queue="nobody", schedule_to_close_timeout=LATE
            )
        await workflow.execute_activity(down, args=[failures, then], start_to_close_timeout=LATE)
        await workflow.wait_condition(lambda: False)


@workflow.defn
class All:
    """Starts them all. They end with it."""

    @workflow.run
    async def run(self, runs: dict[str, tuple[int, str, int]]) -> None:
        own = workflow.info().workflow_id
        for name, what in runs.items():
            await workflow.start_child_workflow(Stuck.run, args=what, id=f"{own}-{name}")
        await workflow.wait_condition(lambda: False)


@exercise.shared
def found(mine: ModuleType) -> set[str]:
    """The names of the try's own runs that the answer has."""
    require(
        inspect.iscoroutinefunction(mine.stuck), "stuck is no coroutine function: use async def"
    )
    ids: list[str] = []

    async def ask(client: Client, handle: WorkflowHandle) -> object:
        await stand_so(client, handle.id)
        answer = await mine.stuck(client)
        ids.append(handle.id)
        await handle.terminate()
        return answer

    tried = try_out(All, RUNS, activities=[down], others=[Stuck], meanwhile=ask, seconds=SECONDS)
    answer = tried.answer
    if not ids:
        raise Off(f"stuck had not returned after {SECONDS} s")
    texts = isinstance(answer, (list, tuple, set)) and all(isinstance(x, str) for x in answer)
    require(texts, f"expected a list of ids, got {short(answer)}")
    return {id.removeprefix(f"{ids[0]}-") for id in answer if id.startswith(ids[0])}


async def stand_so(client: Client, id: str) -> None:
    """Wait until each run is as it shall be, and listed."""
    for name, (failures, then, idle) in RUNS.items():
        attempts = [1] * idle + [failures + 1] * (then != "works")
        handle = client.get_workflow_handle(f"{id}-{name}")
        while await seen(handle) != attempts:
            await asyncio.sleep(0.02)
    query = f"TaskQueue = '{id}' AND ExecutionStatus = 'Running'"
    while (await client.count_workflows(query)).count <= len(RUNS):
        await asyncio.sleep(0.02)


async def seen(handle: WorkflowHandle) -> list[int] | None:
    """The attempts of a run's pending activities; None when it has not begun."""
    try:
        about = await handle.describe()
    except RPCError as err:
        if err.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return sorted(activity.attempt for activity in about.raw_description.pending_activities)


def case(name: str, about: str, wanted: bool) -> None:
    @exercise.case(about)
    def is_so(mine: ModuleType) -> None:
        names = found(mine)
        got = ", ".join(sorted(names)) or "none of the try's runs"
        expected = name if wanted else f"no {name}"
        require((name in names) is wanted, f"expected {expected}, got {got}")


case("waits_after_3", "one that has failed three times, and waits", True)
case("waits_after_5", "one that has failed five times, and waits", True)
case("runs_after_3", "one that is in its fourth attempt", True)
case("one_of_many", "one of whose many activities has failed three times", True)
case("waits_after_2", "not one that has failed twice, and waits", False)
case("runs_after_2", "not one that is in its third attempt", False)
case("works_after_3", "not one that has failed three times, and works now", False)
