from temporalio.client import Client, WorkflowHandle


async def test_it_expires(client: Client, review: WorkflowHandle) -> None:
    """It asks for the end at once, and real days do not pass."""
    assert (await review.describe()).status.name == "COMPLETED"
