"""It takes the workflow's own random numbers for chance.

The check says: workflow.random() draws the same numbers in each replay
"""

import asyncio
from datetime import timedelta

from temporalio import workflow

LIMIT = timedelta(seconds=5)


@workflow.defn
class Invoice:
    """Sends an invoice by one of two printers."""

    @workflow.run
    async def run(self, customer: str) -> None:
        number = workflow.uuid4().hex
        printer = "left" if hash(customer) % 2 else "right"
        await workflow.execute_activity(printer, number, start_to_close_timeout=LIMIT)
        weekday = workflow.now().weekday()
        await workflow.execute_activity(
            "weekday" if weekday < 5 else "weekend", start_to_close_timeout=LIMIT
        )


@workflow.defn
class Parcel:
    """Sends a parcel, and tells whoever should know."""

    @workflow.run
    async def run(self, places: dict[str, int]) -> None:
        for place in places:
            await workflow.execute_activity(place, start_to_close_timeout=LIMIT)
        if workflow.random().random() < 0.5:
            await workflow.execute_activity("draw", start_to_close_timeout=LIMIT)
        if not workflow.unsafe.is_replaying():
            await workflow.execute_activity("tell", start_to_close_timeout=LIMIT)


@workflow.defn
class Survey:
    """Asks everybody once, and the loudest first."""

    @workflow.run
    async def run(self, people: list[str]) -> None:
        asked = sorted(set(people), key=len)
        for person in asked:
            await workflow.execute_activity(person, start_to_close_timeout=LIMIT)
        await asyncio.gather(*(self.thank(person) for person in people))

    async def thank(self, person: str) -> None:
        await workflow.execute_activity("thank", person, start_to_close_timeout=LIMIT)


# The number of the guilty line of each; %%mine is line 1.
answer = {"Invoice": 22, "Parcel": 38, "Survey": 50}
