from datetime import timedelta

from temporalio import activity, workflow

LIMIT = timedelta(seconds=5)


@activity.defn
def reserve(item: str) -> str:
    return f"{item} is reserved"


@activity.defn
def check_stock(item: str) -> str:
    return f"{item} is there"


@activity.defn
def charge(item: str) -> str:
    return f"{item} is charged"


@workflow.defn
class Order:
    """Reserves, waits up to 90 days for pay(), and charges. Now it shall check the stock first."""

    def __init__(self) -> None:
        self.paid = False

    @workflow.run
    async def run(self, item: str) -> str:
        await workflow.execute_activity(reserve, item, start_to_close_timeout=LIMIT)
        try:
            await workflow.wait_condition(lambda: self.paid, timeout=timedelta(days=90))
        except TimeoutError:
            return "never paid"
        return await workflow.execute_activity(charge, item, start_to_close_timeout=LIMIT)

    @workflow.signal
    def pay(self) -> None:
        self.paid = True
