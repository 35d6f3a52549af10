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
    events = history.to_json_dict()["events"]
    for event in events:
        if failed := event.get("activityTaskFailedEventAttributes"):
            scheduled = events[int(failed["scheduledEventId"]) - 1]
            details = scheduled["activityTaskScheduledEventAttributes"]
            await reset(client, id, int(details["workflowTaskCompletedEventId"]))
            return
    raise ValueError(f"no activity of {id} has failed")
