from datetime import timedelta

from temporalio import activity, workflow

LIMIT = timedelta(seconds=5)


@activity.defn
async def reserve(item: str) -> str:
    return f"{item} is reserved"


@activity.defn
async def check_stock(item: str) -> str:
    return f"{item} is there"


@activity.defn
async def charge(item: str) -> str:
    return f"{item} is charged"


@workflow.defn
class Order:
    """The order of steps is chosen first, then taken."""

    def __init__(self) -> None:
        self.paid = False

    @workflow.run
    async def run(self, item: str) -> str:
        steps = [check_stock, reserve] if workflow.patched("v2") else [reserve]
        for step in steps:
            await workflow.execute_activity(step, item, start_to_close_timeout=LIMIT)
        try:
            await workflow.wait_condition(lambda: self.paid, timeout=timedelta(days=90))
        except TimeoutError:
            return "never paid"
        return await workflow.execute_activity(charge, item, start_to_close_timeout=LIMIT)

    @workflow.signal
    def pay(self) -> None:
        self.paid = True
