"""A set, over all runs, closed ones too."""

from temporalio.client import Client


async def stuck(client: Client):
    ids = set()
    async for run in client.list_workflows():
        d = await client.get_workflow_handle(run.id, run_id=run.run_id).describe()
        for a in d.raw_description.pending_activities:
            if a.attempt - 1 >= 3:
                ids.add(d.id)
    return ids
