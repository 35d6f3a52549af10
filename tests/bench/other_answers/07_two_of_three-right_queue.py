"""A queue of approvals, and a dictionary."""

import asyncio

from temporalio import workflow


@workflow.defn
class TwoOfThree:
    """Ends when two of three approvers have approved, and returns the two, the first one first."""

    @workflow.init
    def __init__(self, approvers: list[str]) -> None:
        self.approvers = approvers
        self.box: asyncio.Queue[str] = asyncio.Queue()

    @workflow.run
    async def run(self, approvers: list[str]) -> list[str]:
        found: dict[str, None] = {}
        while len(found) < 2:
            by = await self.box.get()
            if by in approvers:
                found[by] = None
        return list(found)

    @workflow.signal
    def approve(self, by: str) -> None:
        self.box.put_nowait(by)
