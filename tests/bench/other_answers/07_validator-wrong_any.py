"""It refuses every rejection."""

from temporalio import workflow


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
        self.decision = "approved" if approved else f"rejected: {reason}"
        return self.decision

    @decide.validator
    def _check(self, approved: bool, reason: str) -> None:
        if not approved:
            raise ValueError("A rejection needs a reason.")
