"""It sleeps until the middle, and reminds those who have decided, too.

The check says: expected 0 reminders, got 1
"""

import asyncio
from datetime import timedelta

from temporalio import activity, workflow

from labkit.bench import effect

DEADLINE = timedelta(minutes=30)


@activity.defn
def remind() -> None:
    effect("a reminder was sent")


@workflow.defn
class Asks:
    """Waits for approve() until the deadline, and sends a reminder when half of it has passed."""

    def __init__(self) -> None:
        self.approved = False

    @workflow.run
    async def run(self) -> str:
        half = DEADLINE / 2
        await asyncio.sleep(half.total_seconds())
        await workflow.execute_activity(remind, start_to_close_timeout=timedelta(seconds=5))
        if await self._approved_within(DEADLINE - half):
            return "approved"
        return "expired"

    async def _approved_within(self, time: timedelta) -> bool:
        try:
            await workflow.wait_condition(lambda: self.approved, timeout=time)
        except TimeoutError:
            return False
        return True

    @workflow.signal
    def approve(self) -> None:
        self.approved = True
