"""The signal is never sent, because the call is not awaited.

The check says: the run still waits for a decision: is the call awaited?
"""

from temporalio.client import Client


async def reject(client: Client, id: str, reason: str) -> None:
    handle = client.get_workflow_handle(id)
    handle.signal("reject_prod_deployment", args=["me", reason])
