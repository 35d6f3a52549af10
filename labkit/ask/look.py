"""What a run is doing at this moment, asked of the server and of the workflow's own query."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from labkit.core.settings import LabError, settings
from labkit.pipeline.messages import STEPS, Status
from labkit.pipeline.workflow import PIPELINE_STEP, MLOpsWorkflow, reason

T = TypeVar("T")

POLL_SECONDS = 0.1
# A workflow task that a dying worker took with it comes back after five to ten seconds.
ANSWER_LIMIT = timedelta(seconds=15)
AT_ONCE = timedelta(seconds=2)
# A query that a dying worker took with it never comes back: ask again.
QUERY_SECONDS = 5
LEAST_SECONDS = 1
# A workflow task that has failed so often will fail again: its code must be mended first.
CODE_TRIES = 2
# How long nobody may answer, while a worker or the server starts again.
SILENCE_SECONDS = 30
WORDS = {
    "completed": "completed",
    "failed": "failed",
    "canceled": "cancelled",
    "terminated": "terminated",
    "timed_out": "timed out",
    "continued_as_new": "continued as a new run",
}


@dataclass
class View:
    """What is known about a run at one moment. ``state`` is running, or how the run ended.

    ``recorded`` is False while the server has not yet recorded the step that the query names.
    """

    status: Status
    state: str
    trees: dict[str, int] = field(default_factory=dict)
    attempt: int = 1
    last_failure: str = ""
    next_attempt_seconds: float | None = None
    recorded: bool = True

    def rows(self) -> list[tuple[str, str, str]]:
        """(step, state in words, remark) for each step, in order."""
        rows = []
        for step in STEPS[:-1]:
            if step in self.status.completed_steps:
                rows.append((step, "done", self._figures(step)))
            elif step == self.status.current_step and self.state == "running":
                waits = self.status.awaiting_approval
                rows.append((step, "waiting" if waits else "running", self._remark()))
            elif step == self.status.current_step:
                rows.append((step, WORDS[self.state], ""))
            else:
                ended = self.state != "running"
                rows.append((step, "not reached" if ended else "to come", ""))
        return rows

    def headline(self) -> str:
        """The run in one line: where it is, or how and why it ended."""
        status = self.status
        where = status.current_step if self.state == "running" else WORDS[self.state]
        detail = status.failure_reason or status.deployment_status.replace("_", " ")
        for environment, model in status.superseded.items():
            detail += f"; {model} was deployed later, and is current on {environment}"
        return f"{where}: {detail.removeprefix(f'{where} ')}" if self.state != "running" else where

    def text(self, live: bool = True) -> str:
        """The whole view as text; without ``live``, nothing that depends on the moment."""
        rows = [
            f"  {step:<24}{word:<12}{remark if live or word == 'done' else ''}".rstrip()
            for step, word, remark in self.rows()
        ]
        return "\n".join([self.headline(), *rows])

    def _figures(self, step: str) -> str:
        metrics = self.status.quality_metrics
        if step == "data_preprocessing" and self.status.labels_misaligned:
            return "labels shuffled on purpose"
        if step == "model_training" and metrics:
            return (
                f"accuracy {metrics.accuracy:.2f}, MAE {metrics.mae:.2f} rings, "
                f"R² {metrics.r2_score:.2f}"
            )
        decision = self.status.decision
        if step == "awaiting_prod_approval" and decision:
            verb = "approved" if decision.approved else "rejected"
            return f"{verb} by {decision.by}" if decision.by else verb
        return "nobody decided" if step == "awaiting_prod_approval" else ""

    def _remark(self) -> str:
        remarks = []
        if self.trees:
            remarks.append(f"{self.trees.get('trees', 0)} of {self.trees.get('of', 0)} trees")
        if self.attempt > 1:
            soon = self.next_attempt_seconds
            remarks.append(f"attempt {self.attempt}" + (f" in {soon:.0f} s" if soon else ""))
        if self.last_failure:
            remarks.append(f"after: {self.last_failure[:100]}")
        return ", ".join(remarks)


class Silence(LabError):
    """Nobody answers for a run. Shortly after a crash, that passes."""


def arrived(view: View, until: str | None) -> bool:
    if until is None:
        return view.state != "running"
    if not view.recorded:
        return False
    if until == "completed":
        return view.state == "completed"
    return until == view.status.current_step or until in view.status.completed_steps


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
    handle = client.get_workflow_handle(id, result_type=Status)
    try:
        async with asyncio.timeout(seconds):  # the SDK's own tries again for ten seconds
            return await handle.query(MLOpsWorkflow.get_status)
    except (TimeoutError, RPCError, WorkflowQueryFailedError) as err:
        raise await unanswered(client, id, f"a query ({str(err) or 'no answer in time'})") from None


async def describe(client: Client, id: str) -> WorkflowExecutionDescription:
    try:
        return await client.get_workflow_handle(id).describe()
    except RPCError as err:
        if err.status == RPCStatusCode.NOT_FOUND:
            raise LabError(
                f"There is no workflow {id}. List them: python -m labkit status"
            ) from None
        raise _no_server(err) from None


def _no_server(err: RPCError) -> Silence:
    return Silence(
        f"The Temporal server does not answer: {err.message}. Mend: python -m labkit start temporal"
    )


async def look_at_once(client: Client, id: str) -> View:
    """As :func:`look`, without the patience that a call has with a server that is down."""
    try:
        await client.service_client.check_health(timeout=AT_ONCE)
    except RPCError as err:
        raise _no_server(err) from None
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
    description = await describe(client, id)
    view = View(await ask_status(client, id, seconds), _state(description))
    step = description.typed_search_attributes.get(PIPELINE_STEP)
    view.recorded = step == view.status.current_step
    if not view.recorded:
        return view  # it moved on between the two answers
    for pending in description.raw_description.pending_activities:
        view.attempt = pending.attempt
        view.last_failure = await _failure(client, pending)
        if pending.HasField("next_attempt_schedule_time"):
            due = pending.next_attempt_schedule_time.ToDatetime(UTC) - datetime.now(UTC)
            view.next_attempt_seconds = max(0.0, due.total_seconds())
        if pending.HasField("heartbeat_details"):
            details = await client.data_converter.decode(pending.heartbeat_details.payloads)
            view.trees = details[0] if details else {}
    view.last_failure = view.last_failure or view.status.trouble
    return view


async def settled(client: Client, id: str) -> None:
    """Wait, within a limit, until no task of the workflow's code is under way.

    After a crash, a query may be answered from events that no task has dealt with yet. A decision
    on that answer would come into the same task, before those events, when the run is replayed:
    the replay would not agree, and the run would be stuck.
    """
    deadline = time.monotonic() + ANSWER_LIMIT.total_seconds()
    while time.monotonic() < deadline:
        description = await describe(client, id)
        if not description.raw_description.HasField("pending_workflow_task"):
            return
        await asyncio.sleep(POLL_SECONDS)


async def why_waiting(client: Client, id: str) -> str:
    """Say in a sentence what a run that answers queries, but does not move, is waiting for."""
    description = await describe(client, id)
    if description.status is not WorkflowExecutionStatus.RUNNING:
        return f"It ended: {_state(description)}."
    for pending in description.raw_description.pending_activities:
        failure = await _failure(client, pending)
        after = f", after: {failure}" if failure else ""
        return f"It is at {pending.activity_id}, attempt {pending.attempt}{after}"
    with suppress(LabError):
        if trouble := (await ask_status(client, id, QUERY_SECONDS)).trouble:
            return f"It asks anew in a while, after: {trouble}"
    if description.typed_search_attributes.get(PIPELINE_STEP) == "awaiting_prod_approval":
        return "It waits for a human: run.approve() or run.reject()."
    return "It waits for its next workflow task."


async def unanswered(client: Client, id: str, what: str) -> LabError:
    """Why nobody answers for a run. Its queue's list of pollers would tell of the last minutes."""
    description = await describe(client, id)
    queue, ours = description.task_queue, settings().temporal_task_queue
    tried = description.raw_description.pending_workflow_task.attempt
    if tried > 1 and (failure := await _code_failure(client, id)):
        kind = Silence if tried <= CODE_TRIES else LabError
        return kind(f"{id} does not answer {what}. The workflow's own code fails: {failure}")
    mend = "lab = Lab.start()" if queue == ours else f"start one there; the lab's polls {ours}"
    return Silence(
        f"{id} does not answer {what}. No worker answers on the task queue {queue}. Mend: {mend}"
    )


async def _failure(client: Client, pending: PendingActivityInfo) -> str:
    """Why the last attempt of an activity failed; empty when none has."""
    if not pending.HasField("last_failure"):
        return ""
    return reason(await client.data_converter.decode_failure(pending.last_failure))


async def _code_failure(client: Client, id: str) -> str:
    """Why the workflow's code fails, as the history says: one event, however often it is tried.

    Empty when it does not: a workflow task that died with its worker is tried again, too.
    """
    history = await client.get_workflow_handle(id).fetch_history()
    for event in reversed(history.events):
        if event.HasField("workflow_task_completed_event_attributes"):
            break
        if event.HasField("workflow_task_failed_event_attributes"):
            failure = event.workflow_task_failed_event_attributes.failure
            return reason(await client.data_converter.decode_failure(failure))
    return ""


async def pollers(client: Client, queue: str) -> int:
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    return len(answer.pollers)


def _state(description: WorkflowExecutionDescription) -> str:
    return description.status.name.lower() if description.status else "running"
