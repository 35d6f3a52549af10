"""A try in a try, each with its own cancellation."""

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
        free = {"start_to_close_timeout": timedelta(seconds=5)}
        try:
            await workflow.execute_activity(book_flight, **ONCE)
            try:
                await workflow.execute_activity(book_hotel, **ONCE)
            except BaseException:
                await workflow.execute_activity(cancel_hotel, **free)
                raise
        except BaseException:
            await workflow.execute_activity(cancel_flight, **free)
            raise
