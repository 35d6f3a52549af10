"""The list of runs is right within a second, and most steps of most runs cost it nothing."""

import asyncio
import time
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError

from labkit.ask.history import count_events, timers
from labkit.ask.runs import Row, list_rows
from labkit.pipeline.listing import A_MOMENT
from labkit.pipeline.messages import STEPS
from tests.workflow.fakes import ORDER, Bench, Handle, eventually, fails

UPSERTS = "UpsertWorkflowSearchAttributes"
A_SECOND = 1.0
# What a server and a worker take on a machine that is not at rest.
LATE = 2.0


async def listed(bench: Bench, handle: Handle) -> Row | None:
    rows = await list_rows(bench.client, query=f"WorkflowId = '{handle.id}'")
    return rows[0] if rows else None


async def ends(handle: Handle) -> str:
    try:
        await handle.result()
    except WorkflowFailureError as err:
        return type(err.cause).__name__
    return "completed"


@pytest.mark.parametrize(("place", "step"), [(1, "log_experiment"), (3, "deploy_to_dev")])
async def test_a_step_that_lasts_is_listed(bench: Bench, place: int, step: str) -> None:
    begun: list[float] = []

    async def hang(request: Any, attempt: int) -> None:
        begun.append(time.monotonic())
        await asyncio.Event().wait()

    bench.fakes.on[step] = hang
    handle, wanted = await bench.start(), STEPS[place + 1]
    row = await eventually(
        lambda: listed(bench, handle), lambda row: bool(row and row.step == wanted)
    )
    assert time.monotonic() - begun[0] < A_SECOND + LATE
    assert row and row.accuracy == 0.9, "it is listed with the next step"
    await handle.terminate()


async def test_the_first_step_is_listed_before_any_worker_comes(idle: Bench) -> None:
    handle = await idle.start()
    await eventually(lambda: listed(idle, handle), lambda row: bool(row and row.step == STEPS[0]))
    assert count_events(await handle.fetch_history())[UPSERTS] == 0
    await handle.terminate()


@pytest.mark.parametrize("options", [{}, {"max_cached_workflows": 0}])
async def test_steps_that_last_no_moment_are_passed_over(
    idle: Bench, options: dict[str, int]
) -> None:
    """Each upsert is at training, the wait, the end, or the work of a timer that says so."""
    async with idle.worker(**options):
        handle = await idle.awaiting()
        await handle.signal("approve_prod_deployment", "ann")
        await handle.result()
    history = await handle.fetch_history()
    found = count_events(history)
    # The patch of the approval's row has one of its own.
    assert found[UPSERTS] == 4 + found["TimerFired"]
    assert timers(history).count(A_MOMENT) + 1 == found["TimerFired"] + found["TimerCanceled"]


async def test_a_run_that_fails_is_listed_where_it_failed(bench: Bench) -> None:
    bench.fakes.on["deploy_to_dev"] = fails(final=True)
    handle = await bench.start()
    assert await ends(handle) == "ActivityError"
    row = await eventually(
        lambda: listed(bench, handle), lambda row: bool(row and row.state == "failed")
    )
    assert row and (row.step, row.accuracy) == ("dev_deployment", 0.9)


async def test_a_run_that_is_cancelled_is_listed_where_it_was(bench: Bench) -> None:
    async def hang(request: Any, attempt: int) -> None:
        await asyncio.Event().wait()

    bench.fakes.on["train_model"] = hang
    handle = await bench.start()
    await bench.until(handle, "model_training")
    await handle.cancel()
    assert await ends(handle) == "CancelledError"
    row = await eventually(
        lambda: listed(bench, handle), lambda row: bool(row and row.state == "canceled")
    )
    assert row and row.step == "model_training"


async def test_a_run_that_was_started_without_a_step_lists_each_at_once(bench: Bench) -> None:
    """As the command line starts one, and as all runs were started before there was a list."""
    handle = await bench.start(listed=False)
    await bench.until(handle, "awaiting_prod_approval")
    history = await handle.fetch_history()
    assert count_events(history)[UPSERTS] == 7 and A_MOMENT not in timers(history)
    await handle.signal("reject_prod_deployment", args=["ann", "no"])
    await handle.result()


async def test_what_is_nearly_done_goes_before_what_is_new(idle: Bench) -> None:
    """Six runs on a worker that does one thing at a time end one by one, not all at the end."""

    async def work(request: Any, attempt: int) -> None:
        await asyncio.sleep(0.05)

    idle.fakes.accuracy = 0.82
    idle.fakes.on = dict.fromkeys((*ORDER, "deploy_to_dev"), work)
    handles = [await idle.start() for _ in range(6)]
    async with idle.worker(max_concurrent_activities=1):
        await asyncio.gather(*(handle.result() for handle in handles))
    begun = [n for n, name in enumerate(idle.fakes.order) if name == "preprocess_data"]
    done = [n for n, name in enumerate(idle.fakes.order) if name == "deploy_to_dev"]
    assert sum(new > done[2] for new in begun) >= 2, idle.fakes.order
