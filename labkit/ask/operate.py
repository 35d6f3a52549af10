"""What an operator does to a run: look at its retries, cut a wait short, run it again."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import (
    ResetActivityRequest,
    ResetWorkflowExecutionRequest,
)
from temporalio.client import (
    Client,
    WorkflowHistory,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError
from temporalio.testing import TimeSkipper
from temporalio.worker import Replayer

from labkit.ask.client import connect_like
from labkit.ask.describe import describe
from labkit.ask.history import count_events, own_clock
from labkit.ask.look import ANSWER_LIMIT
from labkit.ask.silence import not_stuck, unanswered
from labkit.core.settings import LabError
from labkit.pipeline.listing import A_MOMENT
from labkit.pipeline.messages import Decision
from labkit.pipeline.words import reason
from labkit.pipeline.workflow import MLOpsWorkflow

ATTEMPT_SECONDS = 15
POLL_SECONDS = 0.02
# A clock that is still being moved when the attempt starts makes the server start another at once.
SHORT_OF_IT = timedelta(seconds=0.1)
_FAILED = (
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
)

_TASK_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED


async def decide(client: Client, id: str, decision: Decision) -> None:
    """Approve or reject a model for prod: the update ``decide_prod_deployment``.

    Raises:
        LabError: nobody awaits a decision, or one was made; with the workflow's own words.
    """
    await not_stuck(client, id)
    try:
        handle = (await connect_like(client, id)).get_workflow_handle(id)
        update = MLOpsWorkflow.decide_prod_deployment
        await handle.execute_update(update, decision, rpc_timeout=ANSWER_LIMIT)
    except WorkflowUpdateFailedError as err:
        raise LabError(f"{id} refused the decision: {reason(err.cause)}") from None
    except WorkflowUpdateRPCTimeoutOrCancelledError:
        seconds = ANSWER_LIMIT.total_seconds()
        raise await unanswered(client, id, "the decision", seconds) from None
    except RPCError as err:
        raise LabError(f"{id} cannot take a decision: {err.message}") from None


async def pending(client: Client, id: str) -> PendingActivityInfo | None:
    """The activity that a run is at, or None when it is at none."""
    return (await describe(client, id)).pending


def failures(activity: PendingActivityInfo | None) -> int:
    """How many attempts of a pending activity have failed, since the last reset of it."""
    return activity.attempt - 1 if activity else 0


async def cancel(client: Client, id: str) -> None:
    """Ask a run to end: its code cleans up first.

    Raises:
        LabError: it has ended already.
    """
    try:
        await client.get_workflow_handle(id).cancel()
    except RPCError as err:
        raise LabError(f"{id} cannot be cancelled: {err.message}") from None


async def terminate(client: Client, id: str) -> None:
    """End a run at once: none of its code runs any more.

    Raises:
        LabError: it has ended already.
    """
    try:
        await client.get_workflow_handle(id).terminate("terminated by hand")
    except RPCError as err:
        raise LabError(f"{id} cannot be terminated: {err.message}") from None


async def retry_now(client: Client, id: str, activity_id: str = "") -> None:
    """Cut the wait for the next attempt short: what ``temporal activity reset`` does.

    The attempt counts as the first one again, so the gaps start small again, too. When no activity
    is named, it is the one that the run is at.

    Raises:
        LabError: the run is not at that activity.
    """
    if not activity_id:
        if (waiting := await pending(client, id)) is None:
            raise LabError(f"{id} is at no activity that could be tried again.")
        activity_id = waiting.activity_id
    request = ResetActivityRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=id), id=activity_id
    )
    try:
        await client.workflow_service.reset_activity(request)
    except RPCError as err:
        raise LabError(f"{id} is not at {activity_id}: {err.message}") from None


async def skip_gap(client: Client, id: str) -> float:
    """Move the clock of one workflow, and of nothing else, to the end of the gap that it is in.

    It returns when the next attempt has failed, too. (Moving a workflow's clock is an
    experimental feature of the server.)

    Returns:
        The gap in seconds, as the server had scheduled it.

    Raises:
        LabError: the run waits for no further attempt, or the server cannot move its clock.
    """
    await _until_it_is_listed(client, id)
    activity, handle = await _waiting(client, id), client.get_workflow_handle(id)
    gap = activity.current_retry_interval.ToTimedelta()
    clock = own_clock(await handle.fetch_history(), datetime.now(UTC))
    left = activity.next_attempt_schedule_time.ToDatetime(UTC) - clock - SHORT_OF_IT
    try:
        if left > timedelta():
            await TimeSkipper(client).fast_forward(handle, left)
    except RPCError as err:
        raise LabError(
            f"This Temporal server does not move a workflow's clock: {err.message}. "
            f"The lab's own does."
        ) from None
    for _ in range(round(ATTEMPT_SECONDS / POLL_SECONDS)):
        if failures(await pending(client, id)) > failures(activity):
            return round(gap.total_seconds(), 2)
        await asyncio.sleep(POLL_SECONDS)
    raise LabError(f"{activity.activity_id} of {id} was not tried within {ATTEMPT_SECONDS} s.")


async def _until_it_is_listed(client: Client, id: str) -> None:
    """Let a timer fire that is due within a moment: a clock that is moved would stop there."""
    for _ in range(round(2 * A_MOMENT.total_seconds() / POLL_SECONDS)):
        found = count_events(await client.get_workflow_handle(id).fetch_history())
        if found["TimerStarted"] == found["TimerFired"] + found["TimerCanceled"]:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _waiting(client: Client, id: str) -> PendingActivityInfo:
    """The activity that a run is at, as soon as it waits for its next attempt."""
    for _ in range(round(ATTEMPT_SECONDS / POLL_SECONDS)):
        activity = await pending(client, id)
        if activity is None:
            break
        if activity.HasField("current_retry_interval"):
            return activity
        await asyncio.sleep(POLL_SECONDS)  # an attempt is under way
    raise LabError(f"{id} does not wait for a further attempt of an activity.")


async def run_again(client: Client, id: str) -> None:
    """Run a failed workflow again, from just before the activity that failed.

    Temporal copies the history up to that point into a new run with the same workflow id, so
    what was done before (a training, say) is not done again.

    Raises:
        LabError: no activity of it has failed.
    """
    history = await client.get_workflow_handle(id).fetch_history()
    point = _before_the_failure(history)
    if point is None:
        raise LabError(f"No activity of {id} has failed, so there is nothing to run again.")
    await _reset(client, id, point, "run again from the lab")


async def rescue(client: Client, id: str) -> str:
    """Send a run back to the last workflow task whose history this code can replay.

    What came after is done again, so activities must be idempotent; a decision may be lost.

    Returns:
        What is done again, in a sentence.

    Raises:
        LabError: the run has ended, or this code replays all of it.
    """
    handle = client.get_workflow_handle(id)
    if not (await describe(client, id)).open:
        raise LabError(f"{id} has ended, so there is nothing to rescue.")
    history = await handle.fetch_history()
    point = await _last_replayable(client, history)
    if point is None:
        raise LabError(f"This code replays the whole history of {id}: it needs no rescue.")
    await _reset(client, id, point, "rescued: the history could not be replayed")
    redone = [
        event.activity_task_scheduled_event_attributes.activity_id
        for event in history.events[point:]
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    return (
        f"{id} goes on from event {point}. Done again: {', '.join(redone) or 'no activity'}. "
        f"A decision that was made after that event must be made again."
    )


async def _last_replayable(client: Client, history: WorkflowHistory) -> int | None:
    """The id of the event to go back to; None when all of it can be replayed.

    A workflow task's commands follow its end, and only the next task shows whether a replay makes
    the same ones: so the history is cut just before the end of each task, from the last one back.
    """
    events = list(history.events)
    ends = [event.event_id for event in events if event.event_type == _TASK_COMPLETED]
    cuts = [*ends[1:], len(events) + 1]
    for number in reversed(range(len(cuts))):
        part = WorkflowHistory(history.workflow_id, events[: cuts[number] - 1])
        replayer = Replayer(workflows=[MLOpsWorkflow], data_converter=client.data_converter)
        if not (await replayer.replay_workflow(part, raise_on_replay_failure=False)).replay_failure:
            return None if number == len(cuts) - 1 else cuts[number]
    raise LabError(f"This code replays nothing of {history.workflow_id}: it is another workflow's.")


async def _reset(client: Client, id: str, event_id: int, reason: str) -> None:
    request = ResetWorkflowExecutionRequest(
        namespace=client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=id),
        reason=reason,
        workflow_task_finish_event_id=event_id,
        request_id=uuid4().hex,
    )
    await client.workflow_service.reset_workflow_execution(request)


def _before_the_failure(history: WorkflowHistory) -> int | None:
    """The workflow task that first asked for the activity which failed, and was never completed."""
    asked: dict[str, int] = {}
    failed: dict[str, int] = {}
    for event in history.events:
        attributes = getattr(event, event.WhichOneof("attributes") or "")
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            asked.setdefault(attributes.activity_id, attributes.workflow_task_completed_event_id)
        elif event.event_type in (*_FAILED, EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED):
            scheduled = history.events[attributes.scheduled_event_id - 1]
            name = scheduled.activity_task_scheduled_event_attributes.activity_id
            if event.event_type in _FAILED:
                failed.setdefault(name, asked[name])
            else:
                failed.pop(name, None)
    return next(iter(failed.values()), None)
