"""Why a run does not go on: a sentence, and what to do, from what the Temporal server says."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import (
    PendingActivityState,
    PendingWorkflowTaskState,
    VersioningBehavior,
)
from temporalio.api.workflow.v1 import PendingActivityInfo, PendingWorkflowTaskInfo
from temporalio.client import Client

from labkit.ask.describe import Description, describe, failure_of
from labkit.ask.endings import Told, ended, in_seconds, name_of
from labkit.ask.look import QUERY_SECONDS, ask_status
from labkit.ask.silence import code_failure, describe_queue, version_on
from labkit.ask.view import times
from labkit.core.settings import LabError
from labkit.pipeline.messages import WORKFLOW_TYPE

# A workflow task is a matter of milliseconds.
LONG_TASK_SECONDS = 0.5
SET_CURRENT = (
    "temporal worker deployment set-current-version --deployment-name {0} --build-id {1} --yes"
)
MOVE = (
    "temporal workflow update-options --workflow-id {0} --versioning-override-behavior one_time "
    "--versioning-override-deployment-name {1} --versioning-override-build-id BUILD"
)
FAIL = "temporal activity fail --workflow-id {id} --activity-id {activity}"


@dataclass(frozen=True)
class Why:
    """Why a run does not go on, and what to do about it; the latter is empty when nothing is."""

    id: str
    sentence: str
    todo: str = ""

    def __str__(self) -> str:
        todo = f"\n  What to do: {self.todo}" if self.todo else ""
        return f"{self.id}: {self.sentence}{todo}"


async def why(client: Client, id: str) -> Why:
    """Why a run does not go on, or how it ended; any workflow's, not only the lab's.

    Raises:
        LabError: there is no such run, or no server answers.
    """
    seen = await describe(client, id)
    if not seen.open:
        return Why(id, *await ended(client, seen))
    if told := await code_failure(client, seen, tries=1):
        return Why(id, *told)
    found = seen.raw_description
    task = found.pending_workflow_task
    if found.HasField("pending_workflow_task") and _since(task.scheduled_time) > LONG_TASK_SECONDS:
        return Why(id, *await _of_task(client, seen, task))
    if seen.pending:
        return Why(id, *await _of_activity(client, seen, seen.pending))
    return Why(id, await _of_code(client, seen))


async def _of_code(client: Client, seen: Description) -> str:
    """What a run that is at no activity, and whose code is well, waits for."""
    if held := seen.held()[1]:
        return held
    if seen.type != WORKFLOW_TYPE:
        if seen.raw_description.HasField("pending_workflow_task"):
            return "Its own code is at work at this moment."
        return "Nothing is pending: it waits for a timer, a signal, an update or a child workflow."
    with suppress(LabError):
        if trouble := (await ask_status(client, seen.id, QUERY_SECONDS)).trouble:
            return f"It asks anew in a while, after: {trouble}"
    if seen.step == "awaiting_prod_approval":
        return "It waits for a human: run.approve() or run.reject()."
    return "It waits for its next workflow task."


async def _of_task(client: Client, seen: Description, task: PendingWorkflowTaskInfo) -> Told:
    if task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_STARTED:
        return (
            f"A worker took its workflow task {_since(task.started_time):.1f} s ago and has not "
            f"answered. That takes milliseconds: the worker's event loop is blocked, or it died.",
            "Look for a call that blocks in an async def on that worker. Make it a def, which gets "
            "a thread, or await something.",
        )
    versioning = seen.raw_description.workflow_execution_info.versioning_info
    if versioning.behavior == VersioningBehavior.VERSIONING_BEHAVIOR_PINNED:
        build = versioning.deployment_version
        name = build.deployment_name
        return (
            f"It is pinned to build {build.build_id} of {name}, and after "
            f"{_since(task.scheduled_time):.1f} s no worker of that build has taken its task.",
            f"Start one, or move the run to a build that can replay it: "
            f"{MOVE.format(seen.id, name)}",
        )
    what = f"its workflow task has waited for {_since(task.scheduled_time):.1f} s"
    return await _nobody_takes(client, seen.task_queue, what, _since(task.scheduled_time))


async def _nobody_takes(client: Client, queue: str, what: str, age: float) -> Told:
    """Why nobody takes a task from a queue."""
    if version := await version_on(client, queue):
        return (
            f"A worker of version {':'.join(version)} polls the task queue {queue}, but that "
            f"version is not current, so it gets nothing; {what}.",
            SET_CURRENT.format(*version),
        )
    found = await describe_queue(client, queue)
    if found.asked is None:
        return f"No worker polls the task queue {queue}; {what}.", "Start one there."
    if found.asked < age:
        return f"The workers on the task queue {queue} are busy; {what}.", "Wait, or add workers."
    return (
        f"Nobody takes work from the task queue {queue}; {what}. The last worker asked for some "
        f"{found.asked:.1f} s ago: it is gone, or all of its slots are taken.",
        "Start a worker there, or look at what fills the slots.",
    )


async def _of_activity(client: Client, seen: Description, pending: PendingActivityInfo) -> Told:
    name, state = name_of(pending), pending.state
    failure = await failure_of(client, pending)
    if seen.raw_description.workflow_extended_info.cancel_requested:
        return _cancelling(name, pending)
    if held := seen.held()[1]:
        return held, ""
    if state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED:
        return _under_way(seen.id, name, pending, failure)
    if failure:
        return _between_attempts(seen, name, pending, failure)
    age = _since(pending.scheduled_time)
    queue = pending.activity_options.task_queue.name or seen.task_queue
    sentence, todo = await _nobody_takes(client, queue, f"{name} has waited for {age:.1f} s", age)
    if queue != seen.task_queue:
        todo = f"{todo} Or is its name misspelt? The workflow itself is on {seen.task_queue}."
    return sentence, todo


def _between_attempts(
    seen: Description, name: str, pending: PendingActivityInfo, failure: str
) -> Told:
    sentence = f"{name} has failed {times(pending.attempt - 1)}, last with {failure}"
    sentence += "" if sentence.endswith(".") else "."
    info = seen.raw_description.workflow_extended_info
    if "is not registered on this worker" in failure:
        return sentence, f"Register {name} with a worker on that task queue: activities=[…]."
    if "Failed decoding arguments" in failure:
        return sentence, "Its code has not run: an argument is not of the type that it asks for."
    if "PayloadsTooLarge" in failure:
        return sentence, (
            "It ran, and its result is too large to be kept. Write it to a file or a bucket, and "
            "return where it is."
        )
    left = -_since(info.run_expiration_time)  # a run without a limit has one long past
    if left > 0 and not pending.maximum_attempts:
        return (
            f"{sentence} The run times out in {left:.1f} s, and nothing else ends the retries.",
            (f"Give {name} a schedule_to_close_timeout that ends before the run does."),
        )
    return sentence, "It is tried again by itself. Mend what it needs, or its code."


def _under_way(id: str, name: str, pending: PendingActivityInfo, failure: str) -> Told:
    age = _since(pending.last_started_time)
    begin = f"{name} is in attempt {pending.attempt}, for {age:.1f} s"
    limits = pending.activity_options
    if "timeout" in failure:
        return f"{begin}, after: {failure}. The attempt before may still be at work beside it.", (
            "A timeout stops no thread. Heartbeat, so that the old attempt is told, and write so "
            "that two attempts do no harm."
        )
    if failure:
        return f"{begin}, after: {failure}", ""
    if not limits.heartbeat_timeout.ToTimedelta():
        rescue = FAIL.format(id=id, activity=pending.activity_id)
        return (
            f"{begin}. It has no heartbeat timeout, so a dead worker and a slow one look the same "
            f"until start-to-close, {in_seconds(limits.start_to_close_timeout)}.",
            f"Heartbeat, with a heartbeat_timeout. To end this attempt now: {rescue}",
        )
    if not pending.HasField("last_heartbeat_time"):
        return f"{begin}, and has sent no heartbeat.", ""
    return (
        f"{begin}. Its last heartbeat came {_since(pending.last_heartbeat_time):.1f} s ago, so its "
        f"worker lives. If it does not get on, what it waits for does not answer.",
        "Give the call that it waits in a timeout of its own.",
    )


def _cancelling(name: str, pending: PendingActivityInfo) -> Told:
    begin = f"It was asked to cancel, and waits for {name}"
    if not pending.HasField("last_heartbeat_time"):
        return f"{begin}, which sends no heartbeat and so hears nothing.", "Heartbeat in its loop."
    return (
        f"{begin}, which heartbeats and goes on. The last one came "
        f"{_since(pending.last_heartbeat_time):.1f} s ago.",
        "A heartbeat is answered with CancelledError, which is an Exception: look for an except "
        "that catches it, or for a heartbeat_timeout that is missing.",
    )


def _since(moment: Timestamp) -> float:
    return (datetime.now(UTC) - moment.ToDatetime(UTC)).total_seconds()
