"""The last workflow task is the one that saw the failure, so the new run sees it, too.

The check says: the run goes on, and ends well: the new run failed as well
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
    history = await client.get_workflow_handle(id).fetch_history()
    for event in reversed(history.events):
        if event.HasField("workflow_task_completed_event_attributes"):
            await reset(client, id, event.event_id)
            return
