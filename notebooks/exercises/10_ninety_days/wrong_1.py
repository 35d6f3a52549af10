"""It looks at the end only, so a run that expires too early passes.

The check says: a run that expires after nine weeks: expected an AssertionError, your test passed
"""

from datetime import timedelta

from temporalio.client import Client, WorkflowHandle
from temporalio.testing import TimeSkipper


async def test_it_expires(client: Client, review: WorkflowHandle) -> None:
    """Fails unless the run that was just started expires after 90 days, and not before.

    ``review`` is a handle. The run returns "expired" when nobody has decided for 90 days.
    """
    skipper = TimeSkipper(client)
    await skipper.fast_forward(review, timedelta(days=91))
    assert (await review.describe()).status.name == "COMPLETED"
    assert await review.result() == "expired"
