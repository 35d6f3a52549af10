"""The activity fails at each attempt.

The check says: AttributeError: 'str' object has no attribute 'titel' (line
"""

from datetime import timedelta

from temporalio import activity, workflow


@activity.defn
def hello(name: str) -> str:
    return f"Hello, {name.titel()}!"


@workflow.defn
class Hello:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(
            hello, name, start_to_close_timeout=timedelta(seconds=5)
        )
