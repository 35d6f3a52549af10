"""It refuses in the handler, after the update was accepted into the history.

The check says: expected no update in the history, got 2
"""

from temporalio import workflow
from temporalio.exceptions import ApplicationError


@workflow.defn
class Asks:
    """Waits for a decision, and returns it."""

    def __init__(self) -> None:
        self.decision = ""

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.decision != "")
        return self.decision

    @workflow.update
    def decide(self, approved: bool, reason: str) -> str:
        if not approved and not reason.strip():
            raise ApplicationError("A rejection needs a reason.")
        self.decision = "approved" if approved else f"rejected: {reason}"
        return self.decision
