"""A workflow with a bug in its own code: Temporal tries its task until the bug is mended."""

from datetime import datetime
from typing import Any

from temporalio import workflow


@workflow.defn(name="MLOpsWorkflow")
class Faulty:
    @workflow.run
    async def run(self, request: Any) -> str:
        return str(datetime.now())
