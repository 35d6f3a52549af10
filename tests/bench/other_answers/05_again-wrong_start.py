"""Starts the workflow once more, under the same id."""

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


async def again(client, id):
    handle = client.get_workflow_handle(id)
    d = await handle.describe()
    await client.start_workflow(d.workflow_type, 1, id=id, task_queue=d.task_queue)
