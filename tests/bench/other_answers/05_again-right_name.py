"""Finds the workflow task before the activity, by the name of the activity."""

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
    last = 0
    async for event in client.get_workflow_handle(id).fetch_history_events():
        if event.HasField("workflow_task_completed_event_attributes"):
            last = event.event_id
        if event.activity_task_scheduled_event_attributes.activity_type.name == "log_result":
            break
    await reset(client, id, last)
