"""The activity is called as a function, so nothing is recorded.

The check says: through workflow.execute_activity
"""

from datetime import timedelta

from temporalio import activity, workflow


@activity.defn
def hello(name: str) -> str:
    return f"Hello, {name}!"


@workflow.defn
class Hello:
    @workflow.run
    async def run(self, name: str) -> str:
        return hello(name)
