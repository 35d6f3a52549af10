"""The event was read in the Web UI, and another run has it elsewhere.

The check says: a longer run, too: expected 1 training, got 2
"""

from uuid import uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client


async def reset(client: Client, id: str, event_id: int) -> None:
    """A new run. It keeps what is before this event, a WorkflowTaskCompleted."""
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=id),
            reason="the password is right again",
            workflow_task_finish_event_id=event_id,
            request_id=str(uuid4()),
        )
    )


async def again(client: Client, id: str) -> None:
    await reset(client, id, 16)
