"""What the platform fails at uses up no attempt; what is deployed later stays current."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import TimeSkipper

from labkit.ask import history
from labkit.ask.look import look
from labkit.ask.operate import run_again
from labkit.core.settings import LabError
from labkit.pipeline.messages import Status
from tests.workflow.fakes import Bench, Handle, eventually, fails
from tests.workflow.test_workflow import failure

CAPPED = ["preprocess_data", "assess_model_quality", "deploy_to_dev", "deploy_to_prod"]
UNAVAILABLE = {"kind": "ModelServerUnavailable"}


def breaks(error: Exception, times: int) -> Any:
    """Each asking fails in this way, so often."""
    left = [times]

    def behave(request: Any, attempt: int) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise error

    return behave


async def asked(handle: Handle, name: str) -> list[tuple[int, str]]:
    """How many attempts each asking for an activity took, and how it ended."""
    found = history.activities(await handle.fetch_history())
    return [(record.attempts, record.outcome) for record in found if record.activity_id == name]


@pytest.mark.parametrize("name", CAPPED)
@pytest.mark.parametrize(
    "error",
    [
        ApplicationError("does not answer", type="ModelServerUnavailable"),
        ApplicationError("is shutting down", type="WorkerShutdown"),
        OSError(28, "No space left on device"),
        OSError(24, "Too many open files"),
        PermissionError(13, "Permission denied"),
        MemoryError(),
    ],
    ids=str,
)
async def test_what_the_platform_fails_at_uses_up_no_attempt(
    bench: Bench, name: str, error: Exception
) -> None:
    bench.fakes.on[name] = breaks(error, 7)
    status = await (await bench.approved()).result()
    assert status.deployment_status == "deployed_to_prod"
    assert status.trouble == "" and status.failure_reason == ""
    assert await asked(bench.started[0], name) == [(1, "failed")] * 7 + [(1, "completed")]
    assert history.prove(await bench.started[0].fetch_history(), [], name, attempts=8) == (
        f"{name} was asked for 8 times, and completed; the event history has 8 attempts, "
        "the ledger 0."  # these workers keep none
    )


@pytest.mark.parametrize("name", CAPPED)
async def test_so_many_refusals_in_a_row_fail_the_run(bench: Bench, name: str) -> None:
    """However many faults of the platform come between: none of them is counted."""
    answers = ["Broken", "OSError", "WorkerShutdown", *["Broken"] * 5]

    def behave(request: Any, attempt: int) -> None:
        kind = answers.pop(0)
        raise ApplicationError(f"{kind} on purpose", type=kind)

    bench.fakes.on[name] = behave
    handle = await bench.awaiting() if name == "deploy_to_prod" else await bench.start()
    if name == "deploy_to_prod":
        await handle.signal("approve_prod_deployment")
    _, status = await failure(bench, handle)
    cap = 2 if name == "deploy_to_prod" else 3
    assert await asked(handle, name) == [(2, "failed"), (1, "failed"), (cap, "failed")]
    assert status.failure_reason == "Broken: Broken on purpose"
    assert status.trouble == ""


async def test_a_worker_that_falls_silent_uses_up_no_attempt(bench: Bench) -> None:
    """It is frozen, or killed: for want of heartbeats, the next asking goes to another."""
    silent = [4]

    async def freeze(request: Any, attempt: int) -> None:
        silent[0] -= 1
        if silent[0] >= 0:
            await asyncio.sleep(20)

    bench.fakes.on["deploy_to_dev"] = freeze
    handle = await bench.start()
    status = await eventually(lambda: bench.status(handle), lambda s: bool(s.trouble))
    assert status.trouble == "TimeoutError: activity Heartbeat timeout"
    await eventually(lambda: bench.status(handle), lambda s: s.awaiting_approval)
    assert await asked(handle, "deploy_to_dev") == [(1, "timed out")] * 4 + [(1, "completed")]
    assert (await bench.status(handle)).trouble == ""
    await handle.signal("reject_prod_deployment")
    await handle.result()


async def test_who_asks_meanwhile_hears_why_it_waits(bench: Bench) -> None:
    bench.fakes.on["deploy_to_dev"] = fails(**UNAVAILABLE)
    handle = await bench.start(speed=0.1)
    run = bench.run(handle)
    await eventually(lambda: bench.status(handle), lambda s: bool(s.trouble))
    with pytest.raises(LabError) as raised:
        await asyncio.to_thread(run.follow, None, 0.5)
    why = "ModelServerUnavailable: ModelServerUnavailable on purpose"
    assert f"It asks anew in a while, after: {why}" in str(raised.value)
    view = await look(bench.client, handle.id)
    assert f"after: {why}" in " ".join(view.text().split())
    bench.fakes.on.clear()
    await TimeSkipper(bench.client).fast_forward(handle, timedelta(seconds=21))
    await eventually(lambda: bench.status(handle), lambda s: s.awaiting_approval)
    await handle.terminate()


async def test_a_platform_that_never_comes_back_ends_in_words(bench: Bench) -> None:
    """Ten minutes of gaps, whatever the speed, and not a minute of real time."""
    bench.fakes.on["deploy_to_dev"] = fails(**UNAVAILABLE)
    handle = await bench.start(speed=0.5)
    await eventually(lambda: bench.status(handle), lambda s: bool(s.trouble))
    while (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
        await TimeSkipper(bench.client).fast_forward(handle, timedelta(seconds=121))
        await asyncio.sleep(0.3)
    error, status = await failure(bench, handle)
    assert error.type == "ModelServerUnavailable"
    assert status.failure_reason == (
        "ModelServerUnavailable: ModelServerUnavailable on purpose (asked anew for 10 minutes)"
    )
    assert bench.fakes.order[-1] == "restore_dev"
    # 4, 8, 16, 32, 64 and then 120 seconds, three times: the fourth would be too much.
    assert bench.fakes.order.count("deploy_to_dev") == 9


async def test_cancellation_while_the_platform_is_gone(bench: Bench) -> None:
    """It ends at once, not after the gap; and the compensation is carried out."""
    bench.fakes.on["deploy_to_prod"] = fails(**UNAVAILABLE)
    handle = await bench.approved(speed=0.01)
    await eventually(lambda: bench.status(handle), lambda s: bool(s.trouble))
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    status = await bench.status(handle)
    assert status.failure_reason == "cancelled on request" and status.trouble == ""
    assert bench.fakes.order[-2:] == ["deploy_to_prod", "restore_prod"]


async def test_again_after_faults_of_the_platform(bench: Bench) -> None:
    """The new run goes on before what failed in the end, not before the first fault."""
    answers = ["OSError", *["Broken"] * 3]

    def behave(request: Any, attempt: int) -> None:
        if answers:
            kind = answers.pop(0)
            raise ApplicationError(f"{kind} on purpose", type=kind)

    bench.fakes.on["preprocess_data"] = breaks(OSError(28, "No space left on device"), 1)
    bench.fakes.on["deploy_to_dev"] = behave
    handle = await bench.start()
    await failure(bench, handle)
    await run_again(bench.client, handle.id)
    again: Handle = bench.client.get_workflow_handle(handle.id, result_type=Status)
    bench.started.append(again)
    await eventually(lambda: bench.status(again), lambda status: status.awaiting_approval)
    assert bench.fakes.order.count("train_model") == 1
    await again.signal("reject_prod_deployment")
    await again.result()


# --- the order of deployments --------------------------------------------------------------------


async def test_each_deployment_has_one_order(bench: Bench) -> None:
    """It is the same for what undoes it, and grows from run to run."""
    earlier = await bench.approved()
    await earlier.result()
    orders = [bench.fakes.requests[f"deploy_to_{env}"].order for env in ("dev", "prod")]
    bench.fakes.on = {"deploy_to_prod": fails(times=10, kind="Broken")}
    later = await bench.approved()
    await failure(bench, later)
    requests = bench.fakes.requests
    orders += [requests[f"deploy_to_{env}"].order for env in ("dev", "prod")]
    assert orders == sorted(orders) and len(set(orders)) == 4
    assert requests["restore_prod"].order == orders[-1]


async def test_a_run_says_that_a_later_deployment_is_current(bench: Bench) -> None:
    bench.fakes.current = "good-later"
    status = await (await bench.approved()).result()
    assert status.deployment_status == "deployed_to_prod"
    assert status.superseded == {"dev": "good-later", "prod": "good-later"}
    view = await look(bench.client, bench.started[0].id)
    assert view.headline() == (
        "completed: deployed to prod; good-later was deployed later, and is current there"
    )
