"""It looks for failures in the history, where no attempt stands that will be retried.

The check says: expected waits_after_3, got none of the try's runs
"""

from temporalio.client import Client


async def stuck(client: Client) -> list[str]:
    found = []
    async for run in client.list_workflows("ExecutionStatus = 'Running'"):
        history = await client.get_workflow_handle(run.id).fetch_history()
        failures = [
            event
            for event in history.events
            if event.HasField("activity_task_failed_event_attributes")
        ]
        if len(failures) >= 3:
            found.append(run.id)
    return found
