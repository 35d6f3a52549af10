"""It counts signals, so one person can be two.

The check says: the same one twice counts once: expected ['Ada', 'Cleo'], got ['Ada', 'Ada']
"""

from temporalio import workflow


@workflow.defn
class TwoOfThree:
    """Ends when two of three approvers have approved, and returns the two, the first one first."""

    @workflow.init
    def __init__(self, approvers: list[str]) -> None:
        self.approvers = approvers
        self.approved: list[str] = []

    @workflow.run
    async def run(self, approvers: list[str]) -> list[str]:
        await workflow.wait_condition(lambda: len(self.approved) >= 2)
        return self.approved[:2]

    @workflow.signal
    def approve(self, by: str) -> None:
        if by in self.approvers:
            self.approved.append(by)
