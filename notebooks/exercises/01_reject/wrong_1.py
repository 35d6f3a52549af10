"""The reason is sent as the first argument, which is the name.

The check says: expected the reason 'the data is a month old', got ''
"""

from temporalio.client import Client


async def reject(client: Client, id: str, reason: str) -> None:
    handle = client.get_workflow_handle(id)
    await handle.signal("reject_prod_deployment", reason)
