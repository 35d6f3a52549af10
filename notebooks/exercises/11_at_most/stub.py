from datetime import timedelta

from temporalio import workflow

LIMIT = {"start_to_close_timeout": timedelta(seconds=5)}


@workflow.defn
class AtMost:
    @workflow.run
    async def run(self, names: list[str]) -> dict[str, str]:
        """Each name, and what the activity "train" gave back, or the reason why it failed."""
        ...
