"""It waits without a limit.

The check says: expected an answer after 0.5 s, and it still waited after 2.5 s
"""

import asyncio
import time
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus


async def wait_until(client: Client, id: str, step: str, seconds: float) -> dict[str, Any]:
    """The status of a run as soon as it is at a step.

    RuntimeError with the reason when it has ended without it, TimeoutError after so many seconds.
    """
    handle = client.get_workflow_handle(id)
    while True:
        running = (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
        status = await handle.query("get_status")
        if status["current_step"] == step:
            return status
        if not running:
            raise RuntimeError(status["failure_reason"])
        await asyncio.sleep(0.1)
