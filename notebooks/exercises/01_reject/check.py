"""Reject a model with the SDK: status, table and prod all say so."""

import asyncio
from types import ModuleType

from exercise_shared.standins import try_pipeline
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.exceptions import CancelledError, TerminatedError

from labkit.bench import Exercise, Try, expect, require

REASON = "the data is a month old"
WAIT_SECONDS = 3

exercise = Exercise(
    task="Write reject(client, id, reason): reject the model of a waiting run with the SDK.",
    hints=[
        "client.get_workflow_handle(id) gives a handle, and a handle sends signals.",
        "The signal reject_prod_deployment takes two arguments: who rejects, and the reason.",
        'await handle.signal("reject_prod_deployment", args=["me", reason])',
    ],
    right="The decision, its author and its reason are in the history and in PostgreSQL.",
)


@exercise.shared
def rejected(mine: ModuleType) -> Try:
    async def decide(client: Client, handle: WorkflowHandle) -> None:
        await until_waiting(handle, True)
        await mine.reject(client, handle.id, REASON)
        await until_waiting(handle, False)

    tried = try_pipeline(meanwhile=decide, seconds=15)
    ended = isinstance(tried.failure, (TerminatedError, CancelledError))
    require(not ended, "the run was ended, and nobody decided")
    return tried.ended()


async def until_waiting(handle: WorkflowHandle, waiting: bool) -> None:
    """Wait until the run waits for a decision, or does so no more."""
    for _ in range(WAIT_SECONDS * 20):
        awaits = (await handle.query("get_status"))["awaiting_approval"]
        runs = (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
        if awaits is waiting or not runs:
            return
        await asyncio.sleep(0.05)
    require(not waiting, "the run never asked for a decision")
    require(waiting, "the run still waits for a decision: is the call awaited?")


@exercise.case("the status says that it was rejected, and why")
def status(mine: ModuleType) -> None:
    decision = rejected(mine).result.decision
    require(decision is not None, "nobody has decided")
    require(not decision.approved, "expected a rejection, and the model was approved")
    require(decision.reason == REASON, f"expected the reason {REASON!r}, got {decision.reason!r}")


@exercise.case("one row in the table of approvals, with a name")
def table(mine: ModuleType) -> None:
    rows = rejected(mine).effects("record_approval")
    expect([(outcome, reason) for outcome, _, reason in rows], [("rejected", REASON)])
    require(rows[0][1], "expected your name in the row, and it is empty")


@exercise.case("the model is on dev, and prod is untouched")
def prod(mine: ModuleType) -> None:
    expect(rejected(mine).effects("deploy_to_environment"), ["dev"])
