from datetime import timedelta

from temporalio.client import Client, WorkflowHandle
from temporalio.testing import TimeSkipper


async def test_it_expires(client: Client, review: WorkflowHandle) -> None:
    """It compares, and tells nobody."""
    await TimeSkipper(client).fast_forward(review, timedelta(days=91))
    (await review.describe()).status.name == "COMPLETED"  # noqa: B015
