"""A human in the loop: who decides, what is kept, when a request expires, and what replays."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.testing import TimeSkipper

from labkit.ask.history import count_events, timers
from labkit.core.settings import LabError
from labkit.pipeline.listing import A_MOMENT
from labkit.pipeline.messages import Approval, Decision, Status
from labkit.pipeline.words import in_words
from tests.workflow.fakes import Bench, Handle, eventually, fails, made
from tests.workflow.test_workflow import DECIDE, DECIDED


def recorded(bench: Bench) -> Approval:
    return bench.fakes.requests["record_approval"]


async def test_the_approval_expires(bench: Bench) -> None:
    """Thirty days in a moment: the workflow's clock is moved."""
    handle = await bench.awaiting()
    waiting = await bench.status(handle)
    asked, until = map(datetime.fromisoformat, (waiting.approval_asked, waiting.approval_deadline))
    assert until - asked == timedelta(days=30)
    await TimeSkipper(bench.client).fast_forward(handle, timedelta(days=29))
    assert (await bench.status(handle)).awaiting_approval
    await TimeSkipper(bench.client).fast_forward(handle, timedelta(days=1, minutes=1))
    status = await handle.result()
    assert bench.fakes.order == DECIDED
    assert status.deployment_status == "approval_expired"
    assert status.failure_reason == "nobody decided within 30 days"
    assert status.decision is None and not status.prod_approved and not status.awaiting_approval
    assert list(status.deployments) == ["dev"]
    row = recorded(bench)
    assert (row.outcome, row.by, row.reason) == ("expired", "", status.failure_reason)
    assert timedelta() <= datetime.fromisoformat(row.at) - until < timedelta(minutes=2)


async def test_a_short_deadline_needs_no_skipping(bench: Bench) -> None:
    status = await (await bench.start(approval_days=0.5 / 86400)).result()
    assert status.deployment_status == "approval_expired"
    assert status.failure_reason == "nobody decided within 0.5 seconds"


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (timedelta(days=1), "1 days"),
        (timedelta(days=2.5), "2.5 days"),
        (timedelta(minutes=2), "120 seconds"),
    ],
)
def test_a_deadline_in_words(time: timedelta, words: str) -> None:
    assert in_words(time) == words


@pytest.mark.parametrize(
    ("decision", "outcome"),
    [(Decision(True, "ann", "fits"), "approved"), (Decision(False, "bob", "old"), "rejected")],
    ids=["approved", "rejected"],
)
async def test_who_when_and_why_are_kept(bench: Bench, decision: Decision, outcome: str) -> None:
    """The time is the workflow's: the sender cannot choose it."""
    handle = await bench.awaiting()
    decision.at = "1999-12-31T23:59:59+00:00"
    await handle.execute_update(DECIDE, decision)
    status = await handle.result()
    assert made(status) == Decision(decision.approved, decision.by, decision.reason)
    assert status.decision and status.decision.at > status.approval_asked
    row = recorded(bench)
    assert row == Approval(
        status.model_id, outcome, decision.by, decision.reason, status.decision.at
    )


async def test_prod_waits_until_the_decision_is_recorded(bench: Bench) -> None:
    """While PostgreSQL is down the decision is safe, it stays made, and nothing is deployed."""
    bench.fakes.on["record_approval"] = fails(kind="ConnectionRefused")
    handle = await bench.approved(speed=50)
    view = await bench.run(handle).look()
    assert view.rows()[5][:2] == ("awaiting_prod_approval", "running")
    await eventually(
        lambda: asyncio.sleep(0), lambda _: bench.fakes.order.count("record_approval") > 2
    )
    assert "deploy_to_prod" not in bench.fakes.order
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(DECIDE, Decision(False, "bob", "late"))
    assert refused.value.cause and "Already approved by ann" in str(refused.value.cause)
    bench.fakes.on.clear()
    status = await handle.result()
    assert made(status) == Decision(True, "ann")
    assert status.deployment_status == "deployed_to_prod"


async def test_a_decision_after_the_deadline_is_refused(bench: Bench) -> None:
    go_on = asyncio.Event()
    bench.fakes.on["record_approval"] = lambda request, attempt: go_on.wait()
    handle = await bench.start(approval_days=0.1 / 86400)
    await eventually(lambda: asyncio.sleep(0), lambda _: "record_approval" in bench.fakes.order)
    await handle.signal("approve_prod_deployment", "ann")
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(DECIDE, Decision(True, "ann"))
    assert isinstance(refused.value.cause, ApplicationError)
    assert refused.value.cause.type == "Expired"
    go_on.set()
    status = await handle.result()
    assert status.decision is None and status.deployment_status == "approval_expired"
    with pytest.raises(LabError, match="already completed"):
        await asyncio.to_thread(bench.run(handle).approve, "ann")


async def test_ten_wait_at_once_and_are_told_apart(bench: Bench) -> None:
    handles = [await bench.awaiting(name=f"good-{n}.csv") for n in range(10)]
    order = [7, 2, 9, 0, 5, 1, 8, 3, 6, 4]
    for n in order:
        approved = n % 2 == 0
        await handles[n].execute_update(DECIDE, Decision(approved, f"ann-{n}", f"because {n}"))
        await handles[n].result()
        waiting = [h for h in handles if (await bench.status(h)).awaiting_approval]
        assert waiting == [
            h for h in handles if handles.index(h) not in order[: order.index(n) + 1]
        ]
    for n, handle in enumerate(handles):
        status = await bench.status(handle)
        assert status.dataset_path == f"data/raw/good-{n}.csv"
        assert made(status) == Decision(n % 2 == 0, f"ann-{n}", f"because {n}")
        assert ("prod" in status.deployments) == (n % 2 == 0)


async def test_the_wait_survives_workers(idle: Bench) -> None:
    """Nobody works for it while the deadline passes: the next worker finds it expired."""
    async with idle.worker():
        handle = await idle.awaiting(approval_days=0.5 / 86400)
    await asyncio.sleep(0.6)
    async with idle.worker():
        assert (await handle.result()).deployment_status == "approval_expired"


async def test_a_new_run_leaves_the_mark_of_the_patch(bench: Bench) -> None:
    handle = await bench.approved()
    await handle.result()
    events = (await handle.fetch_history()).events
    assert sum(event.HasField("marker_recorded_event_attributes") for event in events) == 1


async def test_what_a_wait_and_its_messages_leave_in_the_history(bench: Bench) -> None:
    handle = await bench.awaiting(approval_days=90)
    waits = await handle.fetch_history()
    assert [wait for wait in timers(waits) if wait != A_MOMENT] == [timedelta(days=90)]
    others = count_events(waits)["TimerFired"] + count_events(waits)["TimerCanceled"]
    assert count_events(waits)["TimerStarted"] == 1 + others
    await handle.signal("reject_prod_deployment", args=["Ann", "no"])
    await handle.result()
    found = count_events(await handle.fetch_history())
    assert (found["WorkflowExecutionSignaled"], found["WorkflowExecutionUpdateAccepted"]) == (1, 0)
    assert found["TimerCanceled"] + found["TimerFired"] == found["TimerStarted"] == 1 + others
    assert found["WorkflowExecutionCompleted"] == 1


async def test_a_failed_record_can_be_run_again(bench: Bench) -> None:
    """A wrong password ends the run; mended, it goes on with the decision that was made."""

    def wrong(request: Any, attempt: int) -> None:
        raise ApplicationError("wrong password", type="InvalidPassword", non_retryable=True)

    bench.fakes.on["record_approval"] = wrong
    handle = await bench.approved()
    run = bench.run(handle)
    await asyncio.to_thread(run.follow)
    bench.fakes.on.clear()
    await asyncio.to_thread(run.again)
    again: Handle = bench.client.get_workflow_handle(handle.id, result_type=Status)
    bench.started.append(again)
    status = await again.result()
    assert made(status) == Decision(True, "ann")
    assert bench.fakes.order.count("deploy_to_dev") == 1
    assert bench.fakes.order[-1] == "deploy_to_prod"
