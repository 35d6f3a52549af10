"""What a run is doing at this moment, asked of the server and of the workflow's own query."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from temporalio.client import Client, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.service import RPCError, RPCStatusCode

from labkit.ask.describe import (
    Description,
    NotBegun,
    NothingToAsk,
    Silence,
    before_the_first_step,
    describe,
    failure_of,
    no_server,
)
from labkit.ask.silence import not_stuck, unanswered
from labkit.ask.view import View
from labkit.core.journal import attempts_of
from labkit.pipeline.messages import STEPS, Status
from labkit.pipeline.workflow import MLOpsWorkflow

T = TypeVar("T")

POLL_SECONDS = 0.1
# A workflow task that a dying worker took with it comes back after five to ten seconds.
ANSWER_LIMIT = timedelta(seconds=15)
AT_ONCE = timedelta(seconds=2)
# A query that a dying worker took with it never comes back: ask again.
QUERY_SECONDS = 5
LEAST_SECONDS = 1
# How long nobody may answer, while a worker or the server starts again.
SILENCE_SECONDS = 30


async def patiently(ask: Callable[[float], Awaitable[T]], seconds: float) -> T:
    """Ask again while nobody answers, for so many seconds; the last answer counts."""
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        try:
            return await ask(min(max(left, LEAST_SECONDS), QUERY_SECONDS))
        except Silence:
            if left <= 0:
                raise
        await asyncio.sleep(POLL_SECONDS)


async def ask_status(client: Client, id: str, seconds: float) -> Status:
    """Ask the workflow itself, for so many seconds.

    Raises:
        NothingToAsk: no worker could answer, and the server says why.
        Silence: nobody answers, or nobody yet; says why, as far as the server knows.
        LabError: there is no such run, or its code fails.
    """
    handle = client.get_workflow_handle(id, result_type=Status)
    asked = time.monotonic()
    try:
        async with asyncio.timeout(seconds):  # the SDK's own tries again for ten seconds
            return await handle.query(MLOpsWorkflow.get_status)
    except (WorkflowQueryRejectedError, ValueError):  # the SDK does not know "paused"
        raise NothingToAsk((await describe(client, id)).held()[1]) from None
    except (TimeoutError, RPCError, WorkflowQueryFailedError) as err:
        if isinstance(err, RPCError) and err.status == RPCStatusCode.FAILED_PRECONDITION:
            raise NotBegun(before_the_first_step(await describe(client, id))) from None
        what = f"a query ({str(err) or 'no answer in time'})"
        answered = isinstance(err, WorkflowQueryFailedError)
        raise await unanswered(client, id, what, time.monotonic() - asked, answered) from None


async def status(client: Client, id: str) -> Status:
    """As :func:`ask_status`, while nobody answers for half a minute."""
    return await patiently(lambda left: ask_status(client, id, left), SILENCE_SECONDS)


async def exists(client: Client, id: str) -> bool:
    """True when there is such a workflow."""
    try:
        await client.get_workflow_handle(id).describe()
    except RPCError as err:
        if err.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    except ValueError:  # its status is new to the SDK
        pass
    return True


async def look_at_once(client: Client, id: str) -> View:
    """As :func:`look`, without the patience that a call has with a server that is down."""
    try:
        await client.service_client.check_health(timeout=AT_ONCE)
    except RPCError as err:
        raise no_server(err) from None
    return await look(client, id, AT_ONCE.total_seconds())


async def look(client: Client, id: str, seconds: float = 3 * QUERY_SECONDS) -> View:
    """What a run is doing at this moment.

    Args:
        client: where to ask.
        id: the workflow id.
        seconds: how long nobody may answer.

    Raises:
        LabError: nobody answers, or there is no such run; says why.
    """
    return await patiently(lambda left: _look(client, id, left), seconds)


async def _look(client: Client, id: str, seconds: float) -> View:
    """The description, then the query: so the status of a run that has ended is its last one."""
    description = await not_stuck(client, id)
    view = View(Status(id, ""), "running" if description.open else description.state)
    view.held, view.remark = description.held()
    view.seconds = description.seconds
    view.tried = Counter(attempt.activity_id for attempt in attempts_of(id))
    try:
        view.status = await ask_status(client, id, seconds)
    except NothingToAsk as err:
        return _told_by_the_server(view, description, err)
    view.recorded = description.step == view.status.current_step
    view.last_failure = view.status.trouble
    pending = description.pending
    if not view.recorded or pending is None:
        return view  # it moved on between the two answers, or it is at no activity
    view.attempt = pending.attempt
    view.last_failure = await failure_of(client, pending) or view.status.trouble
    if pending.HasField("next_attempt_schedule_time"):
        due = pending.next_attempt_schedule_time.ToDatetime(UTC) - datetime.now(UTC)
        view.next_attempt_seconds = max(0.0, due.total_seconds())
        view.gap_seconds = pending.current_retry_interval.ToTimedelta().total_seconds()
    if pending.HasField("heartbeat_details"):
        details = await client.data_converter.decode(pending.heartbeat_details.payloads)
        view.trees = details[0] if details else {}
    return view


def _told_by_the_server(view: View, description: Description, err: NothingToAsk) -> View:
    """As much as the description alone can tell. (The starter lists the first step.)"""
    step, why = "" if isinstance(err, NotBegun) else description.step, str(err)
    view.status.current_step = step
    view.status.completed_steps = list(STEPS[: STEPS.index(step)]) if step in STEPS else []
    if not description.open:
        view.status.failure_reason = why.removeprefix(f"{description.id} was ").rstrip(".")
    elif not view.held:
        view.held, view.remark = "to start", why
    return view
