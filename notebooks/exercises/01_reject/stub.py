from temporalio.client import Client


async def reject(client: Client, id: str, reason: str) -> None: ...  # in your name, with the SDK
