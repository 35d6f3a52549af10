"""It ends the run, and decides nothing.

The check says: the run was ended, and nobody decided
"""

from temporalio.client import Client


async def reject(client: Client, id: str, reason: str) -> None:
    handle = client.get_workflow_handle(id)
    await handle.terminate(reason)
