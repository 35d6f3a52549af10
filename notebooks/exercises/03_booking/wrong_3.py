"""The error is caught and not raised again, so a trip without a hotel looks booked.

The check says: expected the run to fail, and it completed
"""

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from labkit.bench import effect

# A booking is tried once: a second attempt might book twice.
ONCE = {
    "start_to_close_timeout": timedelta(seconds=5),
    "retry_policy": RetryPolicy(maximum_attempts=1),
}


@activity.defn
def book_flight() -> None:
    effect("flight booked")


@activity.defn
def book_hotel() -> None:
    effect("hotel booked")


@activity.defn
def cancel_flight() -> None:  # does no harm when there is no booking
    effect("flight cancelled")


@activity.defn
def cancel_hotel() -> None:  # does no harm when there is no booking
    effect("hotel cancelled")


@workflow.defn
class Trip:
    @workflow.run
    async def run(self) -> None:
        undo = []
        try:
            undo.append(cancel_flight)
            await workflow.execute_activity(book_flight, **ONCE)
            undo.append(cancel_hotel)
            await workflow.execute_activity(book_hotel, **ONCE)
        except Exception:
            for cancel in reversed(undo):
                await workflow.execute_activity(cancel, start_to_close_timeout=timedelta(seconds=5))
