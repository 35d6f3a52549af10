"""Processes are really killed, at the worst moments: nothing is lost, and nothing happens twice."""

import asyncio
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from temporalio.worker import Worker

from labkit import Lab, services
from labkit.ask.reasons import why
from labkit.core.journal import attempts_of
from labkit.core.record import State, model_server_url
from labkit.core.settings import LabError, paths
from labkit.pipeline.activities import preprocess_data
from labkit.pipeline.messages import PipelineInput
from labkit.pipeline.workflow import MLOpsWorkflow
from labkit.run import Run
from tests.failures.conftest import Drop
from tests.lab.test_lab_alone import Kernel

Capture = pytest.CaptureFixture[str]
# In the order of the pipeline: each of them answers once it is too late.
ANSWERS = ("preprocess_data", "train_model", "log_experiment", "deploy_to_prod")


@pytest.fixture
def no_worker(mine: Lab) -> Iterator[Lab]:
    """The lab without a worker of its own: processes of their own do the work, and die."""
    yield Lab.start(worker=False)
    processes = list(mine.duty.processes)
    Lab.start()
    assert not [process for process in processes if process.process.alive()]


def trees(run: Run) -> list[int]:
    """Every tree that was trained and saved, in order."""
    return [tree for step in run.training() for tree in range(step.first, step.last + 1)]


def outcomes(run: Run, activity_id: str) -> list[str]:
    return [a.outcome for a in attempts_of(run.id) if a.activity_id == activity_id]


def serving(environment: str) -> dict[str, Any]:
    return httpx.get(f"{model_server_url(environment)}/models", trust_env=False).json()


def test_a_worker_killed_in_training(no_worker: Lab) -> None:
    first = no_worker.worker_process()
    run = no_worker.drop("good-killed.csv", rows=8000)
    run.wait_for_trees(20)
    first.kill()
    assert repr(first) == f"worker, process {first.pid}: killed"
    saved = len(run.training())
    assert trees(run) == [*range(1, 10 * saved + 1)]
    second = no_worker.worker_process()
    run.follow(until="awaiting_prod_approval")
    run.prove("train_model", attempts=2)
    assert outcomes(run, "train_model") == ["lost", "completed"]
    assert trees(run) == [*range(1, 101)]
    pids = [step.pid for step in run.training()]
    assert pids == [first.pid] * saved + [second.pid] * (10 - saved)
    assert len(run.experiments()) == 1
    second.stop()
    assert repr(second) == f"worker, process {second.pid}: stopped"


def test_a_worker_ended_gracefully_in_training(no_worker: Lab, capsys: Capture) -> None:
    """It hands the rest back at once: two attempts, and no tree is trained twice."""
    first = no_worker.worker_process()
    run = no_worker.drop("good-handed-back.csv", rows=8000)
    run.wait_for_trees(20)
    capsys.readouterr()
    first.terminate()
    assert capsys.readouterr().out == f"worker, process {first.pid}: terminated\n"
    assert not first.process.alive()
    handed_back = attempts_of(run.id)[-1]
    assert (handed_back.outcome, handed_back.failure) == ("failed", "WorkerStops")
    second = no_worker.worker_process()
    run.follow(until="awaiting_prod_approval")
    run.prove("train_model", attempts=2)
    assert outcomes(run, "train_model") == ["failed", "completed"]
    assert trees(run) == [*range(1, 101)]
    assert {step.pid for step in run.training()} == {first.pid, second.pid}
    second.terminate()  # it waits for nothing, so nothing is handed back
    run.prove("deploy_to_dev")
    second.terminate()  # harmless when it has ended


def test_killed_after_the_work_and_before_each_answer(no_worker: Lab, drop: Drop) -> None:
    """One run, and a worker that dies with each answer: all is done, and all is done once."""
    run = None
    for place in ANSWERS:
        worker = no_worker.worker_process(crash_at=f"{place}:answer")
        run = run or drop("good-answers.csv")
        if place == "deploy_to_prod":
            run.follow(until="awaiting_prod_approval")
            run.approve()
        worker.wait()
        assert repr(worker) == f"worker, process {worker.pid}: dead"
        assert outcomes(run, place)[-1] == "running"  # as far as anybody was told
        if place == "log_experiment":
            assert len(run.experiments()) == 1
    assert run
    no_worker.worker_process()
    run.follow()
    model = run.status().model_id
    for place in ANSWERS:
        assert outcomes(run, place) == ["lost", "completed"]
        run.prove(place, attempts=2)
        first, second = [a.started for a in attempts_of(run.id) if a.activity_id == place]
        # 3 s of silence, while the next worker starts: far from the start-to-close timeouts.
        assert (second - first).total_seconds() < 20
    assert trees(run) == [*range(1, 101)]
    assert {step.pid for step in run.training()} == {run.training()[0].pid}
    assert [row["model_id"] for row in run.experiments()] == [model]
    for environment in ("dev", "prod"):
        assert serving(environment)["current"] == model
        assert serving(environment)["deployed"].count(model) == 1
    folder = paths().models / model
    assert len([*folder.glob("model-*.joblib")]) == 1 and len([*folder.iterdir()]) == 2


def test_the_temporal_server_killed_while_a_run_trains_and_while_one_waits(
    mine: Lab, drop: Drop
) -> None:
    waiting = drop("good-waiting.csv")
    waiting.follow(until="awaiting_prod_approval")
    before = len(waiting.history().events)
    training = mine.drop("good-training.csv", rows=6000)
    training.wait_for_trees(10)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(training.follow, "awaiting_prod_approval")
        mine.temporal.kill()
        assert not services.status()["temporal"]["running"]
        mine.temporal.start()
        following.result(90)
    assert trees(training) == [*range(1, 101)]
    assert len(training.experiments()) == 1
    assert len(waiting.history().events) == before
    waiting.approve()
    waiting.follow()
    assert waiting.status().deployment_status == "deployed_to_prod"


def test_a_worker_killed_while_it_is_asked(no_worker: Lab, drop: Drop) -> None:
    worker = no_worker.worker_process()
    run = drop("good-asked.csv")
    run.follow(until="awaiting_prod_approval")
    worker.kill()
    with ThreadPoolExecutor(2) as pool:
        asked, following = pool.submit(run.status), pool.submit(run.follow, "dev_deployment")
        no_worker.worker_process()
        assert asked.result(40).awaiting_approval
        following.result(40)


def test_postgres_killed(mine: Lab, drop: Drop) -> None:
    before = drop("good-stored.csv")
    before.follow(until="quality_assessment")
    mine.postgres.kill()
    assert not services.status()["postgres"]["running"]
    run = drop("good-unstored.csv")
    run.wait_for_failures(1)
    mine.postgres.start()
    run.follow(until="quality_assessment")
    assert [len(before.experiments()), len(run.experiments())] == [1, 1]


def test_files_that_fall_while_the_watcher_is_dead(mine: Lab, drop: Drop) -> None:
    assert Lab.start(watcher=False) is mine
    try:
        mine.watcher_process().kill()
        known = {run.id for run in mine.runs()}
        runs = [mine.drop(f"good-{n}.csv", rows=300, wait=False) for n in range(3)]
        with pytest.raises(LabError, match=r"no workflow mlops-.* started within 0\.2 s"):
            runs[0].wait_for_start(0.2)
        for _ in range(2):  # the second one finds that they have run
            watcher = mine.watcher_process()
            for run in runs:
                run.wait_for_start()
            watcher.kill()
        assert {run.id for run in mine.runs()} - known == {run.id for run in runs}
        for run in runs:
            run.follow(until="quality_assessment")
            assert len(run.experiments()) == 1
    finally:
        Lab.start()


def test_a_kernel_killed_and_another_attached(mine: Lab, drop: Drop) -> None:
    run = drop("good-attached.csv")
    run.follow(until="awaiting_prod_approval")
    ours, first = mine.worker_process(), Kernel()
    shown = first.run(
        "from labkit import Lab; lab = Lab.start(); worker = lab.worker_process(); print(lab)"
    )
    assert "does not let go" not in shown and not ours.process.alive()
    pid = int(first.run("print(worker.pid)"))
    first.manager.signal_kernel(signal.SIGKILL)
    first.shut_down()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)  # it ends with the process that started it
    second = Kernel()
    try:
        shown = second.run(
            f"from labkit import Lab; lab = Lab.start(); run = lab.run({run.id!r})\n"
            "run.approve(by='a new kernel'); run.follow()"
        )
        assert " s: deployed to prod" in shown
    finally:
        second.run("lab.stop()")
        second.shut_down()
    assert Lab.start() is mine
    decision = run.status().decision
    assert decision and decision.by == "a new kernel"


def test_the_bounded_waits_say_what_is_missing(
    mine: Lab, drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = drop("good-alone.csv")
    run.follow(until="awaiting_prod_approval")
    Lab.start(worker=False)
    monkeypatch.setattr("labkit.ask.look.SILENCE_SECONDS", 1)
    started = time.monotonic()
    nobody = r"No worker answers on the task queue mlops-task-queue\. Mend: lab = Lab\.start\(\)"
    for ask in (run.status, run.follow, lambda: run.follow(seconds=0.5)):
        with pytest.raises(LabError, match=nobody):
            ask()
    assert time.monotonic() - started < 15
    Lab.start()
    elsewhere = mine.run("mlops-elsewhere")
    request = PipelineInput("data/raw/good-alone.csv")
    mine.call(
        lambda client: client.start_workflow(
            "MLOpsWorkflow", request, id=elsewhere.id, task_queue="nobody-polls"
        )
    )
    with pytest.raises(LabError, match=r"queue nobody-polls\. Mend: start one there; the lab's"):
        elsewhere.follow(seconds=0.5)
    mine.call(lambda client: client.get_workflow_handle(elsewhere.id).terminate())


async def test_a_worker_that_lacks_an_activity(mine: Lab, drop: Drop) -> None:
    await asyncio.to_thread(drop, "good-lacking.csv")
    client, id = await mine.client(), "mlops-lacking"
    with ThreadPoolExecutor(1) as executor:
        worker = Worker(
            client,
            task_queue="lacking",
            workflows=[MLOpsWorkflow],
            activities=[preprocess_data],
            activity_executor=executor,
        )
        async with worker:
            request = PipelineInput("data/raw/good-lacking.csv", speed=20)
            handle = await client.start_workflow(
                "MLOpsWorkflow", request, id=id, task_queue="lacking"
            )
            await asyncio.to_thread(mine.run(id).wait_for_failures, 2)
            with pytest.raises(LabError) as raised:
                await asyncio.to_thread(mine.run(id).follow, None, 0.2)
            words = "with NotFoundError: Activity function train_model for workflow mlops-lacking"
            assert f"train_model has failed twice, last {words}" in str(raised.value)
            assert "Register train_model" in (await why(client, id)).todo
            await handle.terminate()


def test_a_process_that_does_not_start_says_why(mine: Lab) -> None:
    with pytest.raises(LabError, match="LABKIT_CRASH_AT must be like log_experiment:answer") as err:
        mine.worker_process(crash_at="somewhere")
    assert "worker-process ended while it started. The end of " in str(err.value)


def test_a_process_is_on_record_while_it_runs(mine: Lab) -> None:
    with mine.watcher_process() as watcher:
        assert watcher.pid in [user.process.pid for user in State.read().users]
        with pytest.raises(LabError, match=r"watch, process \d+: running has not ended after 0 s"):
            watcher.wait(0)
    assert not watcher.process.alive()
