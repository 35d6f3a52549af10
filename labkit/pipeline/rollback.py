"""Roll an environment back to the model before: an act of its own, which says who and why."""

from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import labkit.pipeline.activities as activities
    import labkit.pipeline.policies as policies
    from labkit.pipeline.messages import Approval
    from labkit.pipeline.work import deployment

ROLLED_BACK = "rolled back"


@dataclass
class RollbackInput:
    """Take ``model_id`` out of service; the one before it serves again. Somebody says why."""

    environment: str
    model_id: str
    by: str
    reason: str


@activity.defn(no_thread_cancel_exception=True)
def withdraw_model(request: RollbackInput) -> str:
    """Take a model out of service: twice is once. Returns the model that serves now."""
    return deployment.withdraw(request.environment, request.model_id) or ""


@workflow.defn(name="RollbackWorkflow")
class RollbackWorkflow:
    """Two steps that must both happen, through any outage: the row in ``approvals``, the switch.

    The row comes first, as before a deployment to prod: nothing changes what serves unless it is
    written who wanted it. No number of failures ends the run.
    """

    @workflow.run
    async def run(self, request: RollbackInput) -> str:
        record, restore = policies.RECORD_APPROVAL, policies.RESTORE
        now = workflow.now().isoformat()
        await workflow.execute_activity(
            activities.record_approval,
            Approval(request.model_id, ROLLED_BACK, request.by, request.reason, now),
            start_to_close_timeout=timedelta(seconds=record.start_to_close),
            heartbeat_timeout=record.heartbeat_timeout,
            retry_policy=record.retry_policy(1),
            summary="Who rolls back, when and why: one row in PostgreSQL",
        )
        return await workflow.execute_activity(
            withdraw_model,
            request,
            start_to_close_timeout=timedelta(seconds=restore.start_to_close),
            retry_policy=restore.retry_policy(1),
            summary=f"Put the previous model back on {request.environment}",
        )
