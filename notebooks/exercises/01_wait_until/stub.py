import asyncio
import time
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus


async def wait_until(client: Client, id: str, step: str, seconds: float) -> dict[str, Any]:
    """The status of a run as soon as it is at a step.

    RuntimeError with the reason when it has ended without it, TimeoutError after so many seconds.
    """
    handle = client.get_workflow_handle(id)
    return await handle.query("get_status")
