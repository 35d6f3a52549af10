from temporalio.client import Client


async def reject(client: Client, id: str, reason: str) -> None:
    handle = client.get_workflow_handle(id)
    await handle.signal("reject_prod_deployment", args=["me", reason])
