from datetime import timedelta

from temporalio import activity, workflow


@activity.defn
def hello(name: str) -> str: ...  # "Hello, Ada!" for "Ada"


@workflow.defn
class Hello:
    @workflow.run
    async def run(self, name: str) -> str: ...  # lets the activity say hello
