"""Replay agrees with what happened: the coin toss, the ids, a cache of nothing, a reset."""

import asyncio
import random

import pytest
from temporalio import workflow
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from labkit.pipeline.messages import WORKFLOW_TYPE, PipelineInput, Status
from labkit.pipeline.names import misaligns_labels
from tests.workflow.fakes import ORDER, Bench, Handle, replay
from tests.workflow.test_workflow import TO_PROD, temporal

ENOUGH_TOSSES = 24  # all heads, or all tails, once in eight million


@pytest.mark.parametrize(
    ("path", "misaligned"),
    [
        ("data/raw/good.csv", False),
        ("data/raw/Good-2.CSV", False),
        ("data/raw/bad.csv", True),
        ("data/raw/BADLY.csv", True),
        ("data/raw/bad/good.csv", False),
        ("good/bad.csv", True),
    ],
)
def test_names_that_need_no_coin(path: str, misaligned: bool) -> None:
    for request in (PipelineInput(path), PipelineInput(path, other_files="good")):
        tosses = {
            misaligns_labels(request.dataset_path, request.other_files, random.Random(seed))
            for seed in range(20)
        }
        assert tosses == {misaligned}


def test_the_coin_is_fair() -> None:
    request = PipelineInput("data/raw/not-bad.csv")
    tosses = [
        misaligns_labels(request.dataset_path, request.other_files, random.Random(seed))
        for seed in range(1000)
    ]
    assert 400 < sum(tosses) < 600


def test_no_coin_is_tossed_when_other_files_are_good() -> None:
    request = PipelineInput("data/raw/not-bad.csv", other_files="good")
    assert not any(
        misaligns_labels(request.dataset_path, request.other_files, random.Random(seed))
        for seed in range(100)
    )


async def test_coin_toss_over_runs(bench: Bench) -> None:
    """Drawn in the workflow: both sides come up, and the replay at the end agrees."""
    bench.fakes.accuracy = 0.7
    handles = [await bench.start("abalone.csv") for _ in range(ENOUGH_TOSSES)]
    results = await asyncio.gather(*(handle.result() for handle in handles))
    assert {status.labels_misaligned for status in results} == {True, False}
    assert len({status.model_id for status in results}) == ENOUGH_TOSSES


async def test_without_a_cache(idle: Bench) -> None:
    """Every task replays the history from its start, and draws the same numbers again."""
    async with idle.worker(max_cached_workflows=0):
        handle = await idle.approved(name="abalone.csv")
        status = await handle.result()
    requests = idle.fakes.requests
    assert idle.fakes.order == TO_PROD
    assert {
        requests["preprocess_data"].model_id,
        requests["train_model"].model_id,
        requests["deploy_to_prod"].model.model_id,
        status.model_id,
    } == {status.model_id}
    assert status.labels_misaligned == requests["preprocess_data"].misalign_labels


async def test_another_worker_goes_on(idle: Bench) -> None:
    """Nothing that was done is done again, and the status is the same."""
    async with idle.worker():
        handle = await idle.awaiting(name="abalone.csv")
        before = await idle.status(handle)
    async with idle.worker():
        assert await idle.status(handle) == before
        await handle.signal("approve_prod_deployment")
        status = await handle.result()
    assert status.model_id == before.model_id
    assert idle.fakes.order == TO_PROD


@workflow.defn(name=WORKFLOW_TYPE, sandboxed=False)
class Changed:
    @workflow.run
    async def run(self, request: PipelineInput) -> Status:
        await workflow.sleep(1)
        return Status("", request.dataset_path)


async def test_replay_notices_changed_code(bench: Bench) -> None:
    """The replays of this suite can fail: a workflow with other steps does not pass."""
    handle = await bench.approved()
    await handle.result()
    history = await handle.fetch_history()
    await replay(history, bench.client)
    with pytest.raises(NondeterminismError):
        await Replayer(workflows=[Changed]).replay_workflow(history)


@pytest.mark.parametrize("point", ["FirstWorkflowTask", "LastWorkflowTask"])
async def test_reset(bench: Bench, temporal_address: str, point: str) -> None:
    """An operator sends a run back; a new run with the same id goes on from there."""
    handle = await bench.awaiting(name="good.csv")
    before = await bench.status(handle)
    words = ("--workflow-id", handle.id, "--type", point, "--reason", "try again")
    await temporal(temporal_address, "workflow", "reset", *words)
    again: Handle = bench.client.get_workflow_handle(handle.id, result_type=Status)
    run = bench.run(again)
    await asyncio.to_thread(run.follow, "awaiting_prod_approval", 10)
    await asyncio.to_thread(run.approve, "ann")
    status = await again.result()
    bench.started.append(again)
    assert status.deployment_status == "deployed_to_prod"
    redone = point == "FirstWorkflowTask"
    assert bench.fakes.order.count(ORDER[0]) == (2 if redone else 1)
    assert (status.model_id == before.model_id) is not redone
