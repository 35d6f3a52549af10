"""One after another is at most three, and takes three times as long.

The check says: three at once, and never more: there was never more than 1
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

LIMIT = {"start_to_close_timeout": timedelta(seconds=5)}


@workflow.defn
class AtMost:
    @workflow.run
    async def run(self, names: list[str]) -> dict[str, str]:
        """Each name, and what the activity "train" gave back, or the reason why it failed."""
        self.slots = asyncio.Semaphore(3)
        results = [await self.one(name) for name in names]
        return dict(zip(names, results, strict=True))

    async def one(self, name: str) -> str:
        async with self.slots:
            try:
                return await workflow.execute_activity("train", name, result_type=str, **LIMIT)
            except ActivityError as err:
                return str(err.cause)
