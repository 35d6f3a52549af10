import asyncio
from datetime import timedelta

from temporalio.client import Client, WorkflowHandle
from temporalio.testing import TimeSkipper


async def test_it_expires(client: Client, review: WorkflowHandle) -> None:
    skipper = TimeSkipper(client)
    await skipper.fast_forward(review, timedelta(days=89, hours=23))
    if (await review.describe()).close_time:
        raise AssertionError("too early")
    await skipper.fast_forward(review, timedelta(hours=2))
    assert await asyncio.wait_for(review.result(), 1) == "expired"
