from temporalio import workflow


@workflow.defn
class TwoOfThree:
    """Ends when two of three approvers have approved, and returns the two, the first one first."""

    @workflow.init
    def __init__(self, approvers: list[str]) -> None:
        self.approvers = approvers

    @workflow.run
    async def run(self, approvers: list[str]) -> list[str]: ...

    @workflow.signal
    def approve(self, by: str) -> None: ...
