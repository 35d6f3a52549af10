import random
from datetime import datetime, timedelta

from temporalio import workflow

OFFICES = {"north", "south", "east", "west"}
LOTS = random.Random()


@workflow.defn
class Tour:
    """Visits an office that is drawn by lot, then all four, sometimes the auditor, then a bar."""

    @workflow.run
    async def run(self) -> list[str]:
        visits = [await self.visit(LOTS.choice(sorted(OFFICES)))]
        for office in OFFICES:
            visits.append(await self.visit(office))
        if random.random() < 0.5:
            visits.append(await self.visit("auditor"))
        late = datetime.now().microsecond >= 500_000
        visits.append(await self.visit("late bar" if late else "early bar"))
        return visits

    async def visit(self, place: str) -> str:
        return await workflow.execute_activity(
            place, start_to_close_timeout=timedelta(seconds=5), result_type=str
        )
