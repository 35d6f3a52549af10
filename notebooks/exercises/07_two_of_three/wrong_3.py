"""It keeps the last approval only, and after a crash several come at once.

The check says: nothing is lost: expected the end after Cleo, Ada, Cleo, and the run waits on
"""

from temporalio import workflow


@workflow.defn
class TwoOfThree:
    """Ends when two of three approvers have approved, and returns the two, the first one first."""

    @workflow.init
    def __init__(self, approvers: list[str]) -> None:
        self.approvers = approvers
        self.approved: list[str] = []
        self.last = ""

    @workflow.run
    async def run(self, approvers: list[str]) -> list[str]:
        while len(self.approved) < 2:
            await workflow.wait_condition(lambda: self.last != "")
            by, self.last = self.last, ""
            if by in self.approvers and by not in self.approved:
                self.approved.append(by)
        return self.approved

    @workflow.signal
    def approve(self, by: str) -> None:
        self.last = by
