from temporalio.client import Client


async def stuck(client: Client) -> list[str]:
    found = []
    async for run in client.list_workflows("ExecutionStatus = 'Running'"):
        description = await client.get_workflow_handle(run.id).describe()
        pending = description.raw_description.pending_activities
        if any(activity.attempt > 3 for activity in pending):
            found.append(run.id)
    return found
