from datetime import timedelta

from temporalio import activity, workflow


@activity.defn
def hello(name: str) -> str:
    return f"Hello, {name}!"


@workflow.defn
class Hello:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(
            hello, name, start_to_close_timeout=timedelta(seconds=5)
        )
