from temporalio.client import Client


async def stuck(client: Client) -> list[str]: ...  # ids: an activity has failed three times or more
