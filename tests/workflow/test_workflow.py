"""The workflow's promises, one by one: order, decisions, failures, retries, cancellation."""

import asyncio
import json
from typing import Any

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import (
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from labkit.ask import history, runs
from labkit.pipeline.errors import FAIL_FAST
from labkit.pipeline.messages import STEPS, Decision, Status
from labkit.pipeline.workflow import MLOpsWorkflow
from labkit.services.temporal import cli
from tests.workflow.fakes import ORDER, Bench, Handle, eventually, fails, made

DECIDE = MLOpsWorkflow.decide_prod_deployment
TO_DEV = [*ORDER, "deploy_to_dev"]
DECIDED = [*TO_DEV, "record_approval"]
TO_PROD = [*DECIDED, "deploy_to_prod"]


async def temporal(address: str, *words: str) -> Any:
    """Run the real Temporal CLI, and read its JSON."""
    process = await asyncio.create_subprocess_exec(
        cli(),
        *words,
        *("--address", address, "--output", "json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out) if out.strip() else None


async def failure(bench: Bench, handle: Handle) -> tuple[ApplicationError, Status]:
    """How a run failed: the activity's own error, and the status that is asked afterwards."""
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()
    cause = raised.value.cause.__cause__
    assert isinstance(cause, ApplicationError)
    return cause, await bench.status(handle)


async def test_happy_path(bench: Bench) -> None:
    seen: dict[str, str] = {}

    async def look(request: Any, attempt: int) -> None:
        status = await bench.status(bench.started[0])
        seen[status.current_step] = ",".join(status.completed_steps)

    bench.fakes.on = dict.fromkeys(TO_PROD, look)
    handle = await bench.awaiting()
    waiting = await bench.status(handle)
    await handle.signal(MLOpsWorkflow.approve_prod_deployment)
    status = await handle.result()

    assert bench.fakes.order == TO_PROD
    worked = [step for step in STEPS[:-1] if step != "awaiting_prod_approval"]
    assert list(seen) == [*worked[:-1], "awaiting_prod_approval", "prod_deployment"]
    for step, completed in seen.items():
        assert completed == ",".join(STEPS[: STEPS.index(step)])
    assert waiting.current_step == "awaiting_prod_approval"
    assert waiting.awaiting_approval and not waiting.prod_approved
    assert waiting.deployment_status == "deployed_to_dev"
    assert list(waiting.deployments) == ["dev"]
    assert status.completed_steps == list(STEPS[:-1])
    assert status.current_step == "completed"
    assert status.prod_approved and not status.awaiting_approval
    assert status.deployment_status == "deployed_to_prod"
    assert status.failure_reason == "" and not status.quality_gate_failed
    assert status.quality_metrics and status.quality_metrics.accuracy == 0.9
    assert status.workflow_id == handle.id
    assert status.labels_misaligned is False
    assert list(status.deployments) == ["dev", "prod"]
    assert status == await bench.status(handle)


async def test_search_attributes_find_the_run(bench: Bench) -> None:
    handle = await bench.awaiting()
    step = "PipelineStep = 'awaiting_prod_approval' AND Accuracy > 0.85"

    async def found(query: str) -> bool:
        query += f" AND WorkflowId = '{handle.id}'"
        return [run.id async for run in bench.client.list_workflows(query)] == [handle.id]

    await eventually(lambda: found(step), bool)
    await handle.signal("approve_prod_deployment")
    await handle.result()
    await eventually(lambda: found("PipelineStep = 'completed' AND Accuracy = 0.9"), bool)
    await eventually(lambda: found("Outcome = 'on prod'"), bool)


async def test_a_run_from_before_there_were_outcomes_has_one(bench: Bench) -> None:
    """Its result tells, which is asked for once."""
    handle = await bench.approved()
    await handle.result()
    old = (await handle.describe()).raw_description.workflow_execution_info
    old.search_attributes.indexed_fields.pop("Outcome", None)
    await runs._learn_outcomes(bench.client, [old])
    assert runs._row(old).words == "on prod, accuracy 0.90"


async def test_what_the_web_ui_shows(bench: Bench) -> None:
    handle = await bench.approved()
    await handle.result()
    convert = bench.client.data_converter
    summaries, timers = {}, []
    for event in (await handle.fetch_history()).events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            name = event.activity_task_scheduled_event_attributes.activity_id
            (summaries[name],) = await convert.decode([event.user_metadata.summary])
        if event.HasField("timer_started_event_attributes"):
            timers += await convert.decode([event.user_metadata.summary])
    assert summaries == {
        "preprocess_data": "Check the CSV and prepare it for training",
        "train_model": "Train a random forest on 4,177 rows",
        "log_experiment": "One row in PostgreSQL",
        "assess_model_quality": "Compare the figures with config/quality_gate.yml",
        "deploy_to_dev": "Deploy to dev and ask it for a prediction",
        "record_approval": "Who decided, when and why: one row in PostgreSQL",
        "deploy_to_prod": "Deploy to prod and ask it for a prediction",
    }
    assert [words for words in timers if words != "A step that lasts is listed"] == [
        "The approval request expires"
    ]
    metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert metadata.current_details == "**completed** of `good.csv`"
    assert await (await handle.describe()).static_summary() == "Pipeline for good.csv"


@pytest.mark.parametrize("arguments", [[], ["ann"]])
async def test_approval_by_signal(bench: Bench, arguments: list[str]) -> None:
    handle = await bench.awaiting()
    await handle.signal("approve_prod_deployment", args=arguments)
    status = await handle.result()
    assert made(status) == Decision(True, *arguments)
    assert bench.fakes.order == TO_PROD


async def test_approval_from_the_command_line(bench: Bench, temporal_address: str) -> None:
    handle = await bench.awaiting()
    which = ("--workflow-id", handle.id)
    await temporal(
        temporal_address, "workflow", "signal", *which, "--name", "approve_prod_deployment"
    )
    assert (await handle.result()).deployment_status == "deployed_to_prod"
    answer = await temporal(temporal_address, "workflow", "query", *which, "--name", "get_status")
    assert answer["queryResult"][0]["deployment_status"] == "deployed_to_prod"


async def test_update_from_the_command_line(bench: Bench, temporal_address: str) -> None:
    handle = await bench.awaiting()
    words = ("--workflow-id", handle.id, "--name", "decide_prod_deployment")
    decision = ("-i", '{"approved": true, "by": "ann"}')
    await temporal(temporal_address, "workflow", "update", "execute", *words, *decision)
    assert made(await handle.result()) == Decision(True, "ann")


async def test_update_answers_with_the_status(bench: Bench) -> None:
    handle = await bench.awaiting()
    answer = await handle.execute_update(DECIDE, Decision(True, "ann"))
    assert answer.prod_approved and not answer.awaiting_approval
    assert made(answer) == Decision(True, "ann")
    assert (await handle.result()).deployment_status == "deployed_to_prod"


@pytest.mark.parametrize("how", ["signal", "update"])
async def test_rejection(bench: Bench, how: str) -> None:
    handle = await bench.awaiting()
    if how == "signal":
        await handle.signal("reject_prod_deployment", args=["bob", "too young"])
    else:
        answer = await handle.execute_update(DECIDE, Decision(False, "bob", "too young"))
        assert answer.deployment_status == "prod_rejected"
    status = await handle.result()
    assert bench.fakes.order == DECIDED
    assert made(status) == Decision(False, "bob", "too young")
    assert status.failure_reason == "too young"
    assert status.deployment_status == "prod_rejected"
    assert not status.prod_approved
    assert status.completed_steps[-1] == "awaiting_prod_approval"


async def test_rejection_without_a_reason(bench: Bench) -> None:
    handle = await bench.awaiting()
    await handle.signal("reject_prod_deployment")
    assert (await handle.result()).failure_reason == "rejected without a reason"


async def test_decisions_that_nobody_awaits(bench: Bench) -> None:
    """Signals are ignored, updates are refused and leave nothing in the history."""
    go_on = asyncio.Event()
    bench.fakes.on["train_model"] = lambda request, attempt: go_on.wait()
    handle = await bench.start()
    await bench.until(handle, "model_training")
    await handle.signal("reject_prod_deployment", args=["bob", "early"])
    await handle.signal("approve_prod_deployment")
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(DECIDE, Decision(True))
    assert isinstance(refused.value.cause, ApplicationError)
    assert refused.value.cause.type == "NotAwaited"
    assert "model_training" in refused.value.cause.message
    go_on.set()
    waiting = await eventually(lambda: bench.status(handle), lambda s: s.awaiting_approval)
    assert waiting.decision is None

    await handle.execute_update(DECIDE, Decision(True, "ann"))
    await handle.result()
    updates = "workflow_execution_update_accepted_event_attributes"
    events = (await handle.fetch_history()).events
    assert sum(event.HasField(updates) for event in events) == 1  # type: ignore[arg-type]


async def test_a_second_decision_is_refused(bench: Bench) -> None:
    go_on = asyncio.Event()
    bench.fakes.on["deploy_to_prod"] = lambda request, attempt: go_on.wait()
    handle = await bench.approved()
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(DECIDE, Decision(False, "bob", "late"))
    assert isinstance(refused.value.cause, ApplicationError)
    assert refused.value.cause.type == "AlreadyDecided"
    assert refused.value.cause.message == "Already approved by ann."
    await handle.signal("reject_prod_deployment", args=["bob", "late"])
    go_on.set()
    status = await handle.result()
    assert made(status) == Decision(True, "ann")
    assert status.deployment_status == "deployed_to_prod"
    with pytest.raises(RPCError, match="already completed"):
        await handle.execute_update(DECIDE, Decision(False))


async def test_two_decisions_at_once(bench: Bench) -> None:
    handle = await bench.awaiting()
    answers = await asyncio.gather(
        *(handle.execute_update(DECIDE, Decision(True, str(number))) for number in range(5)),
        return_exceptions=True,
    )
    won = [answer for answer in answers if isinstance(answer, Status)]
    assert len(won) == 1
    assert (await handle.result()).decision == won[0].decision


async def test_an_unknown_update(bench: Bench) -> None:
    handle = await bench.awaiting()
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update("decide_everything", Decision(True))
    assert "decide_everything" in str(refused.value.cause)
    await handle.terminate()


async def test_quality_gate_failure(bench: Bench) -> None:
    bench.fakes.accuracy = 0.74
    status = await (await bench.start("bad.csv")).result()
    assert bench.fakes.order == ORDER
    assert bench.fakes.requests["preprocess_data"].misalign_labels
    assert status.labels_misaligned
    assert status.quality_gate_failed
    assert status.failure_reason == "quality gate: accuracy 0.74 is below 0.80"
    assert status.deployment_status == "not_deployed" and status.deployments == {}
    assert status.completed_steps == list(STEPS[:4])


@pytest.mark.parametrize("accuracy", [0.80, 0.85])
async def test_good_but_not_good_enough_to_ask(bench: Bench, accuracy: float) -> None:
    bench.fakes.accuracy = accuracy
    status = await (await bench.start()).result()
    assert bench.fakes.order == TO_DEV
    assert status.deployment_status == "deployed_to_dev"
    assert "awaiting_prod_approval" not in status.completed_steps
    assert not status.prod_approved and status.failure_reason == ""


async def test_prod_deployment_fails(bench: Bench) -> None:
    bench.fakes.on["deploy_to_prod"] = fails(kind="WrongPrediction")
    error, status = await failure(bench, await bench.approved())
    assert bench.fakes.calls[6:] == [
        ("deploy_to_prod", 1),
        ("deploy_to_prod", 2),
        ("restore_prod", 1),
    ]
    assert error.type == "WrongPrediction"
    assert status.failure_reason == "WrongPrediction: WrongPrediction on purpose"
    assert status.current_step == "prod_deployment"
    assert "prod_deployment" not in status.completed_steps
    assert status.deployment_status == "deployed_to_dev" and list(status.deployments) == ["dev"]


async def test_dev_deployment_fails(bench: Bench) -> None:
    bench.fakes.on["deploy_to_dev"] = fails()
    _, status = await failure(bench, await bench.start())
    assert bench.fakes.order[4:] == ["deploy_to_dev"] * 3 + ["restore_dev"]
    assert status.deployment_status == "not_deployed"


async def test_a_compensation_does_not_give_up(bench: Bench) -> None:
    bench.fakes.on = {"deploy_to_prod": fails(), "restore_prod": fails(times=8)}
    _, status = await failure(bench, await bench.approved())
    assert bench.fakes.order.count("restore_prod") == 9
    assert status.failure_reason == "Broken: Broken on purpose"


async def test_a_failing_compensation_hides_nothing(bench: Bench) -> None:
    for_good = fails(kind="ServerGone", final=True)
    bench.fakes.on = {"deploy_to_prod": fails(), "restore_prod": for_good}
    error, status = await failure(bench, await bench.approved())
    assert error.type == "Broken"
    assert status.failure_reason == (
        "Broken: Broken on purpose; "
        "the previous model is not back: ServerGone: ServerGone on purpose"
    )


async def test_cancellation_while_waiting(bench: Bench) -> None:
    handle = await bench.awaiting()
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    status = await bench.status(handle)
    assert not status.awaiting_approval
    assert status.failure_reason == "cancelled on request"
    assert bench.fakes.order == TO_DEV


@pytest.mark.parametrize("end", [None, fails(kind="Late")])
async def test_cancellation_during_a_deployment(bench: Bench, end: Any) -> None:
    """The deployment ends first, well or badly; only then is it undone."""
    go_on = asyncio.Event()
    ended: list[int | str] = []

    async def slow(request: Any, attempt: int) -> None:
        await go_on.wait()
        ended.append(attempt)
        if end:
            end(request, attempt)

    bench.fakes.on["deploy_to_prod"] = slow
    bench.fakes.on["restore_prod"] = lambda request, attempt: ended.append("restored")
    handle = await bench.approved()
    await eventually(lambda: asyncio.sleep(0), lambda _: "deploy_to_prod" in bench.fakes.order)
    await handle.cancel()
    await asyncio.sleep(0.2)
    assert "restore_prod" not in bench.fakes.order
    go_on.set()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    assert ended == ([1, 2, "restored"] if end else [1, "restored"])
    status = await bench.status(handle)
    assert status.failure_reason == "cancelled on request"
    assert list(status.deployments) == ["dev"]


async def test_cancellation_during_training(bench: Bench) -> None:
    bench.fakes.on["train_model"] = lambda request, attempt: asyncio.sleep(60)
    handle = await bench.start()
    await bench.until(handle, "model_training")
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    status = await bench.status(handle)
    assert status.failure_reason == "cancelled on request"
    assert status.current_step == "model_training"


@pytest.mark.parametrize("kind", FAIL_FAST)
async def test_fail_fast_types_are_tried_once(bench: Bench, kind: str) -> None:
    """Even where there is no limit on attempts."""
    bench.fakes.on["log_experiment"] = fails(kind=kind, final=True)
    error, status = await failure(bench, await bench.start())
    assert bench.fakes.order.count("log_experiment") == 1
    assert error.type == kind
    assert status.failure_reason == f"{kind}: {kind} on purpose"
    assert status.current_step == "experiment_tracking"


async def test_insufficient_data(bench: Bench) -> None:
    def short(request: Any, attempt: int) -> None:
        try:
            raise ValueError("inner detail")
        except ValueError as err:
            raise ApplicationError(
                "good.csv has 3 rows", type="InsufficientData", non_retryable=True
            ) from err

    bench.fakes.on["preprocess_data"] = short
    _, status = await failure(bench, await bench.start())
    assert status.failure_reason == "InsufficientData: good.csv has 3 rows"
    assert bench.fakes.calls == [("preprocess_data", 1)]


@pytest.mark.parametrize(
    ("name", "attempts"),
    [("preprocess_data", 3), ("assess_model_quality", 3), ("deploy_to_dev", 3)],
)
async def test_limited_attempts(bench: Bench, name: str, attempts: int) -> None:
    bench.fakes.on[name] = fails()
    _, status = await failure(bench, await bench.start())
    assert bench.fakes.order.count(name) == attempts
    assert status.failure_reason == "Broken: Broken on purpose"


@pytest.mark.parametrize("name", ["train_model", "log_experiment", "record_approval"])
async def test_unlimited_attempts(bench: Bench, name: str) -> None:
    bench.fakes.on[name] = fails(times=7)
    handle = await bench.awaiting()
    await handle.signal("reject_prod_deployment")
    await handle.result()
    assert bench.fakes.order.count(name) == 8
    assert history.prove(await handle.fetch_history(), [], name, attempts=8)


# Seconds: first interval, longest interval, attempts (0: no limit), start to close, heartbeat.
RETRIES = {
    "preprocess_data": (1, 60, 3, 60, 3),
    "train_model": (5, 120, 0, 1800, 3),
    "log_experiment": (2, 60, 0, 10, 3),
    "record_approval": (2, 60, 0, 10, 3),
    "assess_model_quality": (1, 60, 3, 5, 0),
    "deploy_to_dev": (2, 60, 3, 30, 3),
    "deploy_to_prod": (5, 60, 2, 30, 3),
    "restore_prod": (1, 60, 0, 30, 3),
}


@pytest.mark.parametrize("speed", [1.0, 10.0])
async def test_retry_policies_in_the_history(bench: Bench, speed: float) -> None:
    bench.fakes.on["deploy_to_prod"] = fails(final=True)
    handle = await bench.approved(speed=speed)
    await failure(bench, handle)
    found = {}
    for event in (await handle.fetch_history()).events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            scheduled = event.activity_task_scheduled_event_attributes
            policy = scheduled.retry_policy
            found[scheduled.activity_id] = (
                policy.initial_interval.ToTimedelta().total_seconds() * speed,
                policy.maximum_interval.ToTimedelta().total_seconds() * speed,
                policy.maximum_attempts,
                scheduled.start_to_close_timeout.seconds,
                scheduled.heartbeat_timeout.seconds,
            )
            assert policy.backoff_coefficient == 2.0
    assert found == RETRIES


async def test_only_the_path_is_needed(bench: Bench, temporal_address: str) -> None:
    """Started by hand, as the README shows it."""
    words = ["--type", "MLOpsWorkflow", "--task-queue", bench.queue, "--workflow-id", bench.queue]
    words += ["--input", '{"dataset_path": "data/raw/good.csv"}']
    await temporal(temporal_address, "workflow", "start", *words)
    handle: Handle = bench.client.get_workflow_handle(bench.queue, result_type=Status)
    bench.started.append(handle)
    await eventually(lambda: bench.status(handle), lambda status: status.awaiting_approval)
    await handle.signal("approve_prod_deployment")
    assert (await handle.result()).deployment_status == "deployed_to_prod"
