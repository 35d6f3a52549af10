import asyncio
import time
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus


async def wait_until(client: Client, id: str, step: str, seconds: float) -> dict[str, Any]:
    """The status of a run as soon as it is at a step.

    RuntimeError with the reason when it has ended without it, TimeoutError after so many seconds.
    """
    handle = client.get_workflow_handle(id)
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        running = (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
        status = await handle.query("get_status")
        if status["current_step"] == step:
            return status
        if not running:
            raise RuntimeError(status["failure_reason"])
        await asyncio.sleep(0.1)
    raise TimeoutError(f"{id} was not at {step} after {seconds} s")
