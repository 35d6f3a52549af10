"""It forgets that the clock has moved on: 89 days and 90 more.

The check says: a run that waits for 120 days: expected an AssertionError, your test passed
"""

from datetime import timedelta

from temporalio.client import Client, WorkflowHandle
from temporalio.testing import TimeSkipper


async def test_it_expires(client: Client, review: WorkflowHandle) -> None:
    """Fails unless the run that was just started expires after 90 days, and not before.

    ``review`` is a handle. The run returns "expired" when nobody has decided for 90 days.
    """
    skipper = TimeSkipper(client)
    await skipper.fast_forward(review, timedelta(days=89))
    assert (await review.describe()).status.name == "RUNNING"
    await skipper.fast_forward(review, timedelta(days=90))
    assert (await review.describe()).status.name == "COMPLETED"
    assert await review.result() == "expired"
