"""How a run ended, in a sentence, and what that means."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client
from temporalio.exceptions import ActivityError, TimeoutError, TimeoutType

from labkit.ask.describe import Description
from labkit.ask.runs import WORDS
from labkit.pipeline.words import reason

# A sentence, and what to do; the latter is empty when there is nothing to do.
Told = tuple[str, str]


async def ended(client: Client, seen: Description) -> Told:
    """How a run ended, from its history and its result."""
    handle, state = client.get_workflow_handle(seen.id), seen.state
    if state == "completed":
        return _completed(await handle.result(), (await handle.fetch_history()).events)
    if state == "timed_out":
        limit = f"The run's own timeout was over after {seen.seconds:.1f} s"
        at = f"{name_of(it)} was at attempt {it.attempt}" if (it := seen.pending) else ""
        return f"{', while '.join(filter(None, (limit, at)))}. None of its code ran at the end.", (
            "Give the activity a schedule_to_close_timeout that ends before the run does."
        )
    if state == "terminated":
        return "It was terminated. None of its code ran at the end.", ""
    if state == "failed":
        history = await handle.fetch_history()
        failed = history.events[-1].workflow_execution_failed_event_attributes.failure
        err = await client.data_converter.decode_failure(failed)
        return _failed(err, history.events)
    return f"It ended: {WORDS[state]}.", ""


def _completed(result: Any, events: Any) -> Told:
    retried = any(it.activity_task_started_event_attributes.attempt > 1 for it in events)
    sentence = "It completed." if retried else "It completed, and no attempt failed."
    if not isinstance(result, str):
        return sentence, ""
    caught = "If that is an error in words, an activity has caught it. Let it raise instead."
    return f"{sentence} Its result: {result!r}", "" if retried else caught


def _failed(err: BaseException, events: Any) -> Told:
    if not isinstance(err, ActivityError):
        return f"It failed: {reason(err)}", ""
    asked = events[err.scheduled_event_id - 1].activity_task_scheduled_event_attributes
    cause = err.cause
    if isinstance(cause, TimeoutError) and cause.type == TimeoutType.START_TO_CLOSE:
        limit = in_seconds(asked.start_to_close_timeout)
        return (
            f"It failed: an attempt of {err.activity_type} took longer than {limit}, which is its "
            f"start-to-close.",
            "That is the limit of one attempt. How many there may be is another one.",
        )
    if isinstance(cause, TimeoutError) and cause.type == TimeoutType.SCHEDULE_TO_CLOSE:
        limit = in_seconds(asked.schedule_to_close_timeout)
        return (
            f"It failed: all attempts of {err.activity_type} together had {limit}, which is its "
            f"schedule-to-close.",
            "That is the limit of all attempts and gaps. How long one may take is another one.",
        )
    return f"It failed: {err.activity_type}: {reason(err)}", ""


def name_of(pending: PendingActivityInfo) -> str:
    """Its id where somebody chose one; the SDK counts otherwise."""
    return pending.activity_type.name if pending.activity_id.isdigit() else pending.activity_id


def in_seconds(limit: Duration) -> str:
    return f"{limit.ToTimedelta().total_seconds():g} s"
