"""No history that cannot be replayed; and a run that is stuck all the same is named and rescued."""

import asyncio
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.client import WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner

from labkit.ask.runs import list_rows
from labkit.core.settings import LabError
from labkit.pipeline.messages import Decision, Deployment, QualityReport, Status
from labkit.pipeline.workflow import MLOpsWorkflow
from tests.workflow.fakes import SECONDS, Bench, Handle, eventually
from tests.workflow.test_workflow import DECIDE, temporal
from tests.workflow.worker import standby

RUNS_EACH = 3


async def decide(how: str, handle: Handle, address: str) -> None:
    which = ("--workflow-id", handle.id)
    if how == "signal":
        await handle.signal("approve_prod_deployment", "ann")
    elif how == "update":
        await handle.execute_update(DECIDE, Decision(True, "ann"))
    elif how == "cli-signal":
        name = ("--name", "approve_prod_deployment", "--input", '"ann"')
        await temporal(address, "workflow", "signal", *which, *name)
    else:
        decision = ("--name", "decide_prod_deployment", "-i", '{"approved": true, "by": "ann"}')
        await temporal(address, "workflow", "update", "execute", *which, *decision)


async def told_to_wait(handle: Handle) -> None:
    """Ask as a human does who sees errors, and asks again, until the run says that it waits."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                status: Status = await handle.query(
                    MLOpsWorkflow.get_status, rpc_timeout=timedelta(seconds=5)
                )
                if status.awaiting_approval:
                    return
            except (RPCError, WorkflowQueryFailedError):
                pass
            await asyncio.sleep(0.05)


async def test_decisions_after_a_crash_are_taken_and_replay(
    idle: Bench, temporal_address: str
) -> None:
    """A query after a worker's death must not run ahead of the workflow task that waits.

    The worker that has the runs in its cache dies while dev is deployed. The query waits a second
    for that worker, and meanwhile the deployment ends: its workflow task waits a second, too. The
    query reaches the next worker first, with an event that no workflow task has dealt with.
    """

    def finished_elsewhere(request: Any, attempt: int) -> None:
        activity.raise_complete_async()

    idle.fakes.on["deploy_to_dev"] = finished_elsewhere
    hows = ["update", "signal", "cli-update", "cli-signal"] * RUNS_EACH
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(standby(temporal_address, idle.queue)) for _ in range(2)
        )
        assert first.stdin and second.stdin
        async with idle.worker(workflows=[]):
            first.stdin.write(b".")
            handles = [await idle.start() for _ in hows]
            for handle in handles:
                await eventually(partial(waits_for, idle, handle), bool)
            for handle in handles[::2]:  # a task between the asking and its answer
                await handle.signal("approve_prod_deployment", "too early")
            await asyncio.sleep(0.3)
            first.kill()
            second.stdin.write(b".")
            asked = [asyncio.create_task(told_to_wait(handle)) for handle in handles]
            await asyncio.sleep(0.3)
            for handle in handles:
                deployment = idle.client.get_async_activity_handle(
                    workflow_id=handle.id,
                    run_id=handle.first_execution_run_id,
                    activity_id="deploy_to_dev",
                )
                await deployment.complete(Deployment("dev", "m", "u"))

            async def human(how: str, handle: Handle, seen: "asyncio.Task[None]") -> Status:
                await seen
                await decide(how, handle, temporal_address)
                async with asyncio.timeout(SECONDS):
                    return await handle.result()

            ends = await asyncio.gather(*map(human, hows, handles, asked))
    assert [status.deployment_status for status in ends] == ["deployed_to_prod"] * len(hows)
    assert [status.decision and status.decision.by for status in ends] == ["ann"] * len(hows)
    assert idle.fakes.order.count("record_approval") == len(hows)


async def waits_for(bench: Bench, handle: Handle) -> bool:
    """True when the deployment is under way, and no workflow task is."""
    description = (await handle.describe()).raw_description
    started = [a.activity_id for a in description.pending_activities if a.attempt]
    task = description.HasField("pending_workflow_task")
    return started == ["deploy_to_dev"] and not task


async def other_code(self: MLOpsWorkflow, model: Any) -> QualityReport:
    """What was the code of the quality gate, before somebody changed it."""
    self._begin("quality_assessment")
    await workflow.sleep(3600)
    return QualityReport(True, True, [])


async def made_stuck(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Handle:
    """A run that came half of its way with other code than the one that must replay it."""
    with monkeypatch.context() as patch:
        patch.setattr(MLOpsWorkflow, "_assess", other_code)
        async with bench.worker(workflow_runner=UnsandboxedWorkflowRunner()):
            handle = await bench.start()
            await bench.until(handle, "quality_assessment")
    await handle.signal("approve_prod_deployment", "too early")
    return handle


async def test_a_stuck_run_is_named_and_rescued(
    idle: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await made_stuck(idle, monkeypatch)
    run = idle.run(handle)
    async with idle.worker():

        async def row_of_it() -> Any:
            return next(row for row in await list_rows(idle.client) if row.id == handle.id)

        row = await eventually(row_of_it, lambda row: row.held == "stuck")
        assert "stuck" in row.words and not row.matches("completed")
        for ask in (run.follow, run.approve):
            with pytest.raises(LabError) as said:
                await asyncio.to_thread(ask)
            assert "stuck" in str(said.value) and "TMPRL1100" in str(said.value)
            assert f"python -m labkit rescue {handle.id}" in str(said.value)

        idle.started.clear()  # that history cannot be replayed; the next one can
        again: Handle = idle.client.get_workflow_handle(handle.id, result_type=Status)
        idle.started.append(again)
        await asyncio.to_thread(run.rescue)
        await asyncio.to_thread(run.follow, "awaiting_prod_approval", SECONDS)
        await asyncio.to_thread(run.approve, "ann")
        assert (await again.result()).deployment_status == "deployed_to_prod"
    assert idle.fakes.order.count("log_experiment") == 1


async def test_what_needs_no_rescue(bench: Bench) -> None:
    handle = await bench.awaiting()
    run = bench.run(handle)
    with pytest.raises(LabError, match=r"replays the whole history of .*: it needs no rescue"):
        await asyncio.to_thread(run.rescue)
    await handle.execute_update(DECIDE, Decision(True))
    await handle.result()
    with pytest.raises(LabError, match="has ended, so there is nothing to rescue"):
        await asyncio.to_thread(run.rescue)


async def test_a_decision_that_a_rescue_loses_is_asked_for_again(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence of a rescue names each activity that is done again."""
    from labkit.ask import operate

    async def point(client: Any, history: Any) -> int:
        ends = [e.event_id for e in history.events if e.event_type == operate._TASK_COMPLETED]
        return ends[1]

    handle = await bench.awaiting()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operate, "_last_replayable", point)
        await asyncio.to_thread(bench.run(handle).rescue)
    said = capsys.readouterr().out
    assert "train_model, log_experiment, assess_model_quality, deploy_to_dev" in said
    assert "preprocess_data" not in said and "must be made again" in said
    again: Handle = bench.client.get_workflow_handle(handle.id, result_type=Status)
    await eventually(lambda: bench.status(again), lambda status: status.awaiting_approval)
    with pytest.raises(WorkflowUpdateFailedError):
        await again.execute_update("no_such_update")
    await again.terminate()
