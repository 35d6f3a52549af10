"""What the workflow does when the platform fails, not the work; and when a worker is ahead."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.exceptions import TimeoutError as TemporalTimeout

from labkit.pipeline.messages import Status
from labkit.pipeline.policies import PLATFORM_FAULTS, Policy
from labkit.pipeline.words import reason

Answer = TypeVar("Answer")

# The gaps between askings add up to no more than that, whatever the speed: then the run fails.
PLATFORM_SECONDS = 600


def is_platform_fault(err: ActivityError) -> bool:
    if isinstance(err.cause, ApplicationError):
        return err.cause.type in PLATFORM_FAULTS
    return isinstance(err.cause, TemporalTimeout)


def gaps(policy: Policy, speed: float) -> Iterator[timedelta]:
    """The gaps after faults of the platform: they double, too, until the time is up."""
    gap, left = policy.first_interval / speed, float(PLATFORM_SECONDS)
    while gap <= left:
        yield timedelta(seconds=gap)
        left -= gap
        gap = min(2 * gap, policy.longest_interval / speed)


class LastTask:
    """The workflow task that woke the code last: its time, and the history's length by then."""

    def __init__(self) -> None:
        self._time, self._length = _now()

    def note(self) -> None:
        """Call it where the code is woken, and nothing that a human may answer comes of it."""
        time, length = _now()
        if time > self._time:
            self._time, self._length = time, length

    def refuse_to_run_ahead(self) -> None:
        """Fail the task of a worker that is ahead of the event history. Call it when woken.

        After a crash a query may replay events that no workflow task has dealt with yet. The
        worker would answer from them, and keep that state. An update accepted on it stands in the
        history after what it came before in any replay: nobody could replay it, and the run would
        be stuck. The workflow's time tells: it passes from task to task only. Where the history
        has grown and the time has not passed, no task has begun. An error that is no Temporal
        failure fails the task, not the run, and empties the worker's cache of it; the query is
        asked again.
        """
        time, length = _now()
        if time == self._time and length > self._length and not _cancelled():
            raise RuntimeError("This worker is ahead of the event history. Ask again.")
        self.note()


def _now() -> tuple[datetime, int]:
    return workflow.now(), workflow.info().get_current_history_length()


async def ask_anew(
    ask: Callable[[], Awaitable[Answer]],
    policy: Policy,
    speed: float,
    status: Status,
    task: LastTask,
) -> Answer:
    """Ask for an activity, again and again while it is the platform that fails.

    Raises:
        ActivityError: the work failed, the time is up, or the run was cancelled meanwhile.
    """
    waits = gaps(policy, speed)
    while True:
        try:
            answer = await ask()
            task.refuse_to_run_ahead()
            status.trouble = ""
            return answer
        except ActivityError as err:
            task.refuse_to_run_ahead()
            await _wait_for_the_platform(err, waits, status)


async def _wait_for_the_platform(
    err: ActivityError, waits: Iterator[timedelta], status: Status
) -> None:
    # Runs that failed here before this line existed fail here when they are replayed, too.
    if not is_platform_fault(err) or not workflow.patched("ask-anew"):
        raise err
    gap = next(waits, None)
    if gap is None:
        status.failure_reason = f"{reason(err)} (asked anew for {PLATFORM_SECONDS // 60} minutes)"
        raise err
    status.trouble = reason(err)
    with suppress(TimeoutError):
        await workflow.wait_condition(
            _cancelled, timeout=gap, timeout_summary="The platform failed: ask anew"
        )
    if _cancelled():
        raise err


def _cancelled() -> bool:
    return workflow.cancellation_reason() is not None
