"""Five runs that hang, told apart by what describe says of them."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any
from uuid import uuid4

from google.protobuf.json_format import MessageToDict
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

from labkit.bench import Exercise, expect, with_client
from labkit.bench.tryworker import sandbox

SECONDS = 10
Seen = dict[str, Any]

exercise = Exercise(
    task="Write name_the_fault(seen): what is wrong with a run, from its description alone.",
    hints=[
        "print(seen) shows you one. Two keys matter: pendingWorkflowTask and pendingActivities.",
        "A pending workflow task with attempt 1 waits for a worker. With a higher attempt it has "
        "failed before. The attempt is a number here.",
        "A pending activity without a lastFailure, and with a lastStartedTime, is under way. In a "
        'lastFailure, the text is in "message", and sometimes its cause has the text.',
    ],
    right="Five runs said RUNNING, and nothing more. Describe tells what each of them waits for.",
)


@workflow.defn
class Calls:
    """Calls one activity."""

    @workflow.run
    async def run(self, name: str) -> None:
        await workflow.execute_activity(
            name,
            start_to_close_timeout=timedelta(hours=1),
            retry_policy=RetryPolicy(timedelta(milliseconds=200), 1),
        )


@workflow.defn
class Buggy:
    @workflow.run
    async def run(self, name: str) -> str:
        return {"good": "all is well"}[name]


@activity.defn
async def hangs() -> None:
    await asyncio.Event().wait()


@activity.defn
async def refuses() -> None:
    raise ConnectionRefusedError("nobody listens on port 5432")


# What each is started as, and when its description shows what it has.
CASES: dict[str, tuple[type, str, Callable[[Seen], Any]]] = {
    "no worker": (Calls, "refuses", lambda seen: seen.get("pendingWorkflowTask")),
    "no such activity": (Calls, "forgotten", lambda seen: "lastFailure" in _first(seen)),
    "workflow fails": (Buggy, "x", lambda seen: _task(seen).get("attempt", 1) > 1),
    "activity fails": (Calls, "refuses", lambda seen: "lastFailure" in _first(seen)),
    "activity hangs": (Calls, "hangs", lambda seen: "lastStartedTime" in _first(seen)),
}


def _first(seen: Seen) -> Seen:
    return dict(next(iter(seen.get("pendingActivities", [])), {}))


def _task(seen: Seen) -> Seen:
    return dict(seen.get("pendingWorkflowTask", {}))


@exercise.shared
def ward(mine: ModuleType) -> dict[str, Seen]:
    """The descriptions of five runs. They are ended once they were looked at."""
    return with_client(_describe_all, SECONDS)


async def _describe_all(client: Client) -> dict[str, Seen]:
    queue = f"try-{uuid4().hex[:12]}"
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[Calls, Buggy],
        activities=[hangs, refuses],
        workflow_runner=sandbox([Calls]),
    )
    async with worker:
        seen = await asyncio.gather(*(_describe(client, queue, name) for name in CASES))
    return dict(zip(CASES, seen, strict=True))


async def _describe(client: Client, queue: str, name: str) -> Seen:
    kind, argument, shows = CASES[name]
    handle = await client.start_workflow(
        kind.run,  # type: ignore[attr-defined]
        argument,
        id=f"{queue}-{name.replace(' ', '-')}",
        task_queue=f"{queue}-nobody" if name == "no worker" else queue,
        task_timeout=timedelta(seconds=1),
    )
    try:
        while not shows(seen := MessageToDict((await handle.describe()).raw_description)):
            await asyncio.sleep(0.05)
        return seen
    finally:
        await handle.terminate()


def _add(name: str) -> None:
    @exercise.case(f"a run with: {name}")
    def case(mine: ModuleType) -> None:
        expect(mine.name_the_fault(ward(mine)[name]), name)


for each in CASES:
    _add(each)
