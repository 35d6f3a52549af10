"""A run as a notebook sees it: it ends, or says in words why it does not."""

import asyncio
import re
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from cryptography.fernet import Fernet
from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from labkit.ask import history, runs
from labkit.ask.describe import describe
from labkit.ask.look import View, ask_status, look
from labkit.ask.loop import Loop
from labkit.ask.reasons import why
from labkit.ask.silence import Queue
from labkit.core.settings import LabError
from labkit.encryption import EncryptionCodec
from labkit.pipeline.messages import STEPS, Decision, PipelineInput, QualityMetrics, Status
from labkit.run import Run
from labkit.services.temporal import cli
from labkit.views.strip import as_strip
from tests.workflow.fakes import Bench, Handle, eventually, fails, made
from tests.workflow.faulty import Faulty


async def in_words(act: Callable[..., object], *arguments: Any) -> str:
    """The LabError that a call ends with."""
    with pytest.raises(LabError) as raised:
        await asyncio.to_thread(act, *arguments)
    return str(raised.value)


# ---------------------------------------------------------------- follow


async def test_follow_to_a_step_and_to_the_end(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = await bench.start()
    run = bench.run(handle)
    await asyncio.to_thread(run.follow, "awaiting_prod_approval", 10)
    assert "awaiting_prod_approval: waiting" in capsys.readouterr().out
    await asyncio.to_thread(run.follow, "dev_deployment", 0)  # it has been there
    await asyncio.to_thread(run.approve, "ann")
    await asyncio.to_thread(run.follow, "completed", 10)
    out = capsys.readouterr().out
    assert "awaiting_prod_approval: done approved by ann" in out
    last = out.splitlines()[-1]
    assert re.fullmatch(r"\S+\.csv: completed after \d\.\d s: deployed to prod; accuracy .*", last)
    await asyncio.to_thread(run.follow)
    await asyncio.to_thread(run.activities)
    assert "deploy_to_prod        1         completed" in capsys.readouterr().out
    await asyncio.to_thread(run.prove, "train_model")
    proved = "Proved: train_model was asked for once, and completed; the event history has 1"
    # The stand-ins' worker keeps no ledger.
    assert capsys.readouterr().out == f"{proved} attempt, the ledger 0.\n"
    with pytest.raises(AssertionError, match="completed at attempt 1, not 3"):
        await asyncio.to_thread(run.prove, "train_model", 3)
    with pytest.raises(AssertionError, match="it is not there"):
        await asyncio.to_thread(run.prove, "restore_prod")


async def test_follow_a_step_that_is_never_reached(bench: Bench) -> None:
    bench.fakes.accuracy = 0.74
    run = bench.run(await bench.start("bad.csv"))
    assert await in_words(run.follow, "prod_deployment", 10) == (
        f"{run.id} ended before prod_deployment: "
        "completed: quality gate: accuracy 0.74 is below 0.80"
    )
    await asyncio.to_thread(run.follow, "completed", 10)


async def test_a_failed_run_does_not_complete(bench: Bench) -> None:
    bench.fakes.on["preprocess_data"] = fails(kind="InvalidData", final=True)
    run = bench.run(await bench.start())
    assert await in_words(run.follow, "completed", 10) == (
        f"{run.id} ended before completed: failed: InvalidData: InvalidData on purpose"
    )
    await asyncio.to_thread(run.follow)  # to the end, whatever it is


@pytest.mark.parametrize("step", ["deployment", "", "data preprocessing"])
def test_an_unknown_step(step: str) -> None:
    with pytest.raises(ValueError, match="The steps are data_preprocessing, model_training"):
        Run("any", cast("Loop", None)).follow(until=step)  # nobody is asked


async def test_an_unknown_run(bench: Bench) -> None:
    run = bench.run(bench.client.get_workflow_handle("mlops-nowhere"))
    nowhere = "There is no workflow mlops-nowhere. List them: python -m labkit status"
    assert await in_words(run.follow) == nowhere
    assert await in_words(run.status) == nowhere
    assert await in_words(run.approve) == nowhere


async def test_the_limit_names_a_human(bench: Bench) -> None:
    run = bench.run(await bench.awaiting())
    assert await in_words(run.follow, "completed", 0.2) == (
        f"{run.id} is not there after 0.2 s. It waits for a human: run.approve() or run.reject()."
    )


async def test_the_limit_names_a_failing_activity(bench: Bench) -> None:
    bench.fakes.on["log_experiment"] = fails(kind="ConnectionRefused")
    handle = await bench.start(speed=1)
    run = bench.run(handle)
    await eventually(lambda: look(bench.client, handle.id), lambda view: view.attempt == 2)
    assert await in_words(run.follow, "completed", 0.1) == (
        f"{run.id} is not there after 0.1 s. log_experiment has failed once, last with "
        "ConnectionRefused: ConnectionRefused on purpose."
    )
    view = await look(bench.client, handle.id)
    assert view.rows()[2][:2] == ("experiment_tracking", "running")
    assert view.rows()[2][2].startswith("attempt 2 in 2 s, after: ConnectionRefused: ")
    assert "attempt" not in view.text(live=False)
    await handle.terminate()


async def test_the_limit_names_a_working_activity(bench: Bench) -> None:
    bench.fakes.on["train_model"] = lambda request, attempt: asyncio.sleep(60)
    handle = await bench.start()
    await bench.until(handle, "model_training")
    run = bench.run(handle)
    assert "train_model is in attempt 1, for " in await in_words(run.follow, "completed", 0.1)
    await handle.terminate()


async def test_heartbeats_show(bench: Bench) -> None:
    async def beat(request: Any, attempt: int) -> None:
        activity.heartbeat({"trees": 40, "of": 100})
        await asyncio.sleep(60)

    bench.fakes.on["train_model"] = beat
    handle = await bench.start()
    view = await eventually(lambda: look(bench.client, handle.id), lambda v: bool(v.trees))
    assert ("model_training", "running", "40 of 100 trees") in view.rows()
    await handle.terminate()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.ask.look.ANSWER_LIMIT", timedelta(seconds=0.5))
    monkeypatch.setattr("labkit.ask.look.QUERY_SECONDS", 0.2)
    monkeypatch.setattr("labkit.ask.look.SILENCE_SECONDS", 0.5)


async def test_no_worker_ever(idle: Bench, impatient: None) -> None:
    handle = await idle.start()
    run = idle.run(handle)
    nobody = (
        f"No worker answers on the task queue {idle.queue}. "
        f"Mend: start one there; the lab's polls mlops-task-queue"
    )
    assert nobody in await in_words(run.follow)
    assert nobody in await in_words(run.status)
    assert nobody in await in_words(run.approve)
    await handle.terminate()


async def test_no_worker_any_more(idle: Bench, impatient: None) -> None:
    """The server remembers pollers for minutes, unless they say goodbye."""
    async with idle.worker():
        handle = await idle.awaiting()
    assert f"No worker answers on the task queue {idle.queue}" in await in_words(
        idle.run(handle).status
    )
    assert f"No worker answers on the task queue {idle.queue}" in await in_words(
        idle.run(handle).approve
    )
    await handle.terminate()


async def test_the_code_of_the_workflow_fails(idle: Bench, impatient: None) -> None:
    async with idle.worker(workflows=[Faulty]):
        handle = await idle.start()
        words = await in_words(idle.run(handle).follow)
        assert "The workflow's own code fails: RestrictedWorkflowAccessError: Cannot" in words
        assert "datetime.datetime.now" in words
        await handle.terminate()
    idle.started.clear()  # its history is not the pipeline's


async def test_the_server_is_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    async def refused(*arguments: Any, **options: Any) -> None:
        raise RPCError("tcp connect error", RPCStatusCode.UNAVAILABLE, b"")

    handle = await bench.awaiting()
    service = type(bench.client.workflow_service)
    monkeypatch.setattr(service, "describe_workflow_execution", refused)
    monkeypatch.setattr(WorkflowHandle, "query", refused)
    words = await in_words(bench.run(handle).status)
    assert words == (
        "The Temporal server does not answer: tcp connect error. "
        "Mend: python -m labkit start temporal"
    )
    assert await in_words(bench.run(handle).follow) == words
    await handle.terminate()


# ---------------------------------------------------------------- decisions


async def test_decisions_in_words(bench: Bench) -> None:
    go_on = asyncio.Event()
    bench.fakes.on["train_model"] = lambda request, attempt: go_on.wait()
    handle = await bench.start()
    await bench.until(handle, "model_training")
    run = bench.run(handle)
    assert await in_words(run.approve) == (
        f"{run.id} refused the decision: NotAwaited: No decision is awaited at model_training."
    )
    go_on.set()
    await asyncio.to_thread(run.follow, "awaiting_prod_approval", 10)
    await asyncio.to_thread(run.reject, "bob", "too young")
    await handle.result()
    assert await in_words(run.approve) == (
        f"{run.id} cannot take a decision: workflow execution already completed"
    )
    assert made(await asyncio.to_thread(run.status)) == Decision(False, "bob", "too young")


async def test_a_second_decision_in_words(bench: Bench) -> None:
    go_on = asyncio.Event()
    bench.fakes.on["deploy_to_prod"] = lambda request, attempt: go_on.wait()
    run = bench.run(await bench.approved())
    assert await in_words(run.reject, "bob") == (
        f"{run.id} refused the decision: AlreadyDecided: Already approved by ann."
    )
    go_on.set()
    await asyncio.to_thread(run.follow, None, 10)


def test_the_address_in_the_web_ui(monkeypatch: pytest.MonkeyPatch, home: Any) -> None:
    monkeypatch.setenv("LABKIT_UI_URL", "http://ui:1/")
    assert Run("a b/ü", cast("Loop", None)).url == (
        "http://ui:1/namespaces/default/workflows/a%20b%2F%C3%BC"
    )


# ---------------------------------------------------------------- views


def status(step: str, reached: int, **changes: Any) -> Status:
    """A run at a step, with so many steps behind it."""
    return Status("id", "data/raw/good.csv", step, list(STEPS[:reached]), **changes)


FIGURES = QualityMetrics(0.8712, 1.5249, 0.5701)

STATES: dict[str, tuple[View, str]] = {
    "training": (
        View(status("model_training", 1), "running", {"trees": 40, "of": 100}),
        """\
model_training
  data_preprocessing      done
  model_training          running     40 of 100 trees
  experiment_tracking     to come
  quality_assessment      to come
  dev_deployment          to come
  awaiting_prod_approval  to come
  prod_deployment         to come""",
    ),
    "bad": (
        View(status("model_training", 1, labels_misaligned=True), "running"),
        """\
model_training
  data_preprocessing      done        labels shuffled on purpose
  model_training          running
  experiment_tracking     to come
  quality_assessment      to come
  dev_deployment          to come
  awaiting_prod_approval  to come
  prod_deployment         to come""",
    ),
    "waiting": (
        View(
            status("awaiting_prod_approval", 5, quality_metrics=FIGURES, awaiting_approval=True),
            "running",
        ),
        """\
awaiting_prod_approval
  data_preprocessing      done
  model_training          done        accuracy 0.87, MAE 1.52 rings, R² 0.57
  experiment_tracking     done
  quality_assessment      done
  dev_deployment          done
  awaiting_prod_approval  waiting
  prod_deployment         to come""",
    ),
    "rejected": (
        View(
            status(
                "completed",
                6,
                decision=Decision(False, "bob", "too young"),
                deployment_status="prod_rejected",
                failure_reason="too young",
            ),
            "completed",
        ),
        """\
completed: too young
  data_preprocessing      done
  model_training          done
  experiment_tracking     done
  quality_assessment      done
  dev_deployment          done
  awaiting_prod_approval  done        rejected by bob
  prod_deployment         not reached""",
    ),
    "expired": (
        View(
            status("completed", 6, failure_reason="nobody decided within 30 days"),
            "completed",
        ),
        """\
completed: nobody decided within 30 days
  data_preprocessing      done
  model_training          done
  experiment_tracking     done
  quality_assessment      done
  dev_deployment          done
  awaiting_prod_approval  done        nobody decided
  prod_deployment         not reached""",
    ),
    "failed": (
        View(
            status("experiment_tracking", 2, failure_reason="InvalidPassword: no entry"),
            "failed",
        ),
        """\
failed: InvalidPassword: no entry
  data_preprocessing      done
  model_training          done
  experiment_tracking     failed
  quality_assessment      not reached
  dev_deployment          not reached
  awaiting_prod_approval  not reached
  prod_deployment         not reached""",
    ),
    "cancelled": (
        View(
            status("awaiting_prod_approval", 5, failure_reason="cancelled on request"),
            "canceled",
        ),
        """\
cancelled: on request
  data_preprocessing      done
  model_training          done
  experiment_tracking     done
  quality_assessment      done
  dev_deployment          done
  awaiting_prod_approval  cancelled
  prod_deployment         not reached""",
    ),
    "terminated": (
        View(status("data_preprocessing", 0), "terminated"),
        """\
terminated: not deployed
  data_preprocessing      terminated
  model_training          not reached
  experiment_tracking     not reached
  quality_assessment      not reached
  dev_deployment          not reached
  awaiting_prod_approval  not reached
  prod_deployment         not reached""",
    ),
}


# The step that ended a run says so, where the table says that it is done.
ENDED_BY = {
    "rejected": ("awaiting_prod_approval", "rejected"),
    "expired": ("awaiting_prod_approval", "expired"),
}
LINES = {
    "training": "good.csv: at model_training after 0.0 s",
    "bad": "good.csv: at model_training after 0.0 s",
    "waiting": "good.csv: waiting for approval after 0.0 s; accuracy 0.87, MAE 1.52 rings, R² 0.57",
    "rejected": "good.csv: completed after 0.0 s: too young",
    "expired": "good.csv: completed after 0.0 s: nobody decided within 30 days",
    "failed": "good.csv: failed after 0.0 s: InvalidPassword: no entry",
    "cancelled": "good.csv: cancelled after 0.0 s: on request",
    "terminated": "good.csv: terminated after 0.0 s: not deployed",
}


@pytest.mark.parametrize("name", STATES)
def test_the_text_of_each_state(name: str) -> None:
    view, text = STATES[name]
    assert view.text() == text
    assert view.line() == LINES[name]
    strip = as_strip(view).replace("<wbr>", "")
    ended = ENDED_BY.get(name, ("", ""))
    for step, word, _ in view.rows():
        word = ended[1] if step == ended[0] else word
        assert f"<strong>{word}</strong></div><div>{step}</div>" in strip


def test_the_line_of_a_run() -> None:
    view = View(status("awaiting_prod_approval", 5, awaiting_approval=True), "running")
    view.seconds, view.tried = 9.71, {"train_model": 1, "log_experiment": 4, "deploy_to_dev": 2}
    tries = "log_experiment tried 4 times; deploy_to_dev tried twice"
    assert view.line() == f"good.csv: waiting for approval after 9.7 s; {tries}"
    assert view.line("awaiting_prod_approval") == view.line()
    assert view.line("dev_deployment").startswith("good.csv: reached dev_deployment after 9.7 s;")
    view.held, view.remark, view.seconds = "paused", "An operator\npaused it.", 90.2 * 86_400
    held = "good.csv: paused at awaiting_prod_approval after 90 days: An operator paused it."
    assert view.line() == f"{held}; {tries}"


async def test_what_follow_leaves_in_jupyter(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line, and the table only for who asks for it."""
    monkeypatch.setattr("labkit.views.progress.in_jupyter", lambda: True)
    bench.fakes.on["log_experiment"] = fails(kind="InvalidPassword", final=True)
    run = bench.run(await bench.start())
    await asyncio.to_thread(run.follow)
    (line,) = capsys.readouterr().out.splitlines()
    assert ".csv: failed after " in line
    assert " s: InvalidPassword: InvalidPassword on purpose; accuracy " in line
    await asyncio.to_thread(lambda: run.follow(table=True))
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 8 and table[0] == "failed: InvalidPassword: InvalidPassword on purpose"


def test_html_is_escaped() -> None:
    view = View(status("completed", 6, failure_reason="<script>"), "completed")
    assert "<script>" not in as_strip(view)


@pytest.mark.parametrize(
    ("view", "remark"),
    [
        (View(status("model_training", 1), "running"), ""),
        (View(status("model_training", 1), "running", attempt=2), "attempt 2"),
        (
            View(status("model_training", 1), "running", {"trees": 1, "of": 9}, 3, "it broke", 4.4),
            "1 of 9 trees, attempt 3 in 4 s, after: it broke",
        ),
        (
            View(status("model_training", 1), "running", last_failure="x" * 500),
            f"after: {'x' * 500}",
        ),
    ],
)
def test_remarks(view: View, remark: str) -> None:
    assert view.rows()[1] == ("model_training", "running", remark)


async def ended(bench: Bench, handle: Handle) -> View:
    return await eventually(
        lambda: look(bench.client, handle.id), lambda view: view.state != "running"
    )


async def test_states_of_real_runs(bench: Bench) -> None:
    cancelled, terminated = await bench.awaiting(), await bench.awaiting()
    await cancelled.cancel()
    await terminated.terminate("enough")
    assert (await ended(bench, cancelled)).headline() == "cancelled: on request"
    assert (await ended(bench, terminated)).headline() == "terminated: deployed to dev"
    bench.fakes.on["assess_model_quality"] = fails(kind="InvalidSettings", final=True)
    failed = await ended(bench, await bench.start())
    assert failed.headline() == "failed: InvalidSettings: InvalidSettings on purpose"
    assert failed.rows()[3][:2] == ("quality_assessment", "failed")


async def test_the_table_of_a_run_that_retries(bench: Bench) -> None:
    bench.fakes.on["train_model"] = fails(times=2)
    bench.fakes.on["assess_model_quality"] = fails()
    handle = await bench.start()
    await ended(bench, handle)
    lines = history.table(await handle.fetch_history()).splitlines()
    cells = [line.split()[:3] for line in lines]
    assert cells == [
        ["activity", "attempts", "outcome"],
        ["preprocess_data", "1", "completed"],
        ["train_model", "3", "completed"],
        ["log_experiment", "1", "completed"],
        ["assess_model_quality", "3", "failed"],
    ]


# ---------------------------------------------------------------- words for Temporal's own states


async def temporal(bench: Bench, *words: str) -> None:
    """The real Temporal CLI."""
    address = bench.client.service_client.config.target_host
    command = await asyncio.create_subprocess_exec(
        *(cli(), *words, "--address", address), stdout=PIPE, stderr=STDOUT
    )
    said, _ = await command.communicate()
    assert command.returncode == 0, said.decode()


async def listed(bench: Bench, handle: Handle, status: str) -> runs.Row:
    """The run's row in the list, once it has a status."""

    async def row() -> runs.Row | None:
        return next((r for r in await runs.list_rows(bench.client) if r.id == handle.id), None)

    found = await eventually(row, lambda row: row is not None and row.status == status)
    assert found
    return found


async def test_a_paused_activity_is_paused_not_refused(bench: Bench) -> None:
    """Its last failure stands in the server for ever; what holds the run is the pause."""
    bench.fakes.on["log_experiment"] = fails(kind="ConnectionRefused")
    handle = await bench.start(speed=1)
    await eventually(lambda: look(bench.client, handle.id), lambda view: view.attempt == 2)
    at = ("--workflow-id", handle.id, "--activity-id", "log_experiment")
    await temporal(bench, "activity", "pause", *at, "--reason", "lunch")
    view = await look(bench.client, handle.id)
    assert view.headline() == "experiment_tracking: paused"
    (_, word, remark) = view.rows()[2]
    assert word == "paused" and "ConnectionRefused" not in view.text()
    assert remark == (
        "An operator paused log_experiment: lunch. Go on: "
        f"temporal activity unpause --workflow-id {handle.id} --activity-id log_experiment"
    )
    assert "An operator paused log_experiment" in (await why(bench.client, handle.id)).sentence
    words = "paused at experiment tracking"
    await eventually(lambda: listed(bench, handle, "paused"), lambda row: row.words == words)
    bench.fakes.on.clear()
    await temporal(bench, "activity", "unpause", *at)
    await bench.until(handle, "awaiting_prod_approval")
    await handle.terminate()


async def test_a_pause_waits_for_the_attempt_that_is_under_way(bench: Bench) -> None:
    go_on = asyncio.Event()
    bench.fakes.on["train_model"] = lambda request, attempt: go_on.wait()
    handle = await bench.start()
    await bench.until(handle, "model_training")
    await eventually(lambda: describe(bench.client, handle.id), lambda d: d.pending is not None)
    at = ("--workflow-id", handle.id, "--activity-id", "train_model")
    await temporal(bench, "activity", "pause", *at)
    view = await look(bench.client, handle.id)
    assert view.rows()[1][1] == "paused" and "This attempt ends first." in view.rows()[1][2]
    go_on.set()
    await bench.until(handle, "awaiting_prod_approval")
    await handle.terminate()


async def test_a_cancelled_run_says_so_before_it_has_ended(bench: Bench) -> None:
    go_on = asyncio.Event()
    bench.fakes.on["deploy_to_dev"] = lambda request, attempt: go_on.wait()
    handle = await bench.start()
    await bench.until(handle, "dev_deployment")
    await eventually(lambda: describe(bench.client, handle.id), lambda d: d.pending is not None)
    await handle.cancel()
    view = await look(bench.client, handle.id)
    assert view.headline() == "dev_deployment: cancelling"
    assert view.rows()[4][2] == "It was asked to cancel. deploy_to_dev ends first."
    go_on.set()
    assert (await ended(bench, handle)).headline() == "cancelled: on request"


async def test_terminated_before_its_first_step(bench: Bench) -> None:
    """No worker has ever seen it, and none is asked for: there is nothing to ask."""
    elsewhere = Bench(bench.client)
    handle = await elsewhere.start()
    await handle.terminate("a typing error")
    view = await look(bench.client, handle.id)
    assert view.headline() == "terminated: before its first step"
    assert {word for _, word, _ in view.rows()} == {"not reached"}
    run = bench.run(handle)
    assert await in_words(run.status) == f"{run.id} was terminated before its first step."
    assert await in_words(run.follow, "model_training") == (
        f"{run.id} ended before model_training: terminated: before its first step"
    )
    await asyncio.to_thread(run.follow)  # to the end, whatever it is


async def test_a_run_that_starts_later_says_when(bench: Bench) -> None:
    handle = await bench.client.start_workflow(
        "MLOpsWorkflow",
        PipelineInput("data/raw/later.csv"),
        id="mlops-later",
        task_queue=bench.queue,
        start_delay=timedelta(hours=1),
    )
    view = await look(bench.client, handle.id)
    assert view.headline() == "before its first step: to start"
    assert re.fullmatch(r"mlops-later starts at [-\d]+ [:\d]+ UTC\.", view.remark)
    await handle.terminate()


async def test_a_worker_without_the_key_says_so(idle: Bench, impatient: None) -> None:
    key = Fernet.generate_key().decode()
    sealed = await reads(idle, EncryptionCodec([key], encrypt=True))
    keyless = await reads(idle, EncryptionCodec([], encrypt=False))
    new = await idle.start(client=sealed)
    old = await idle.start(client=sealed)
    async with idle.worker(client=sealed):
        await bench_until_approval(idle, sealed, old)
    async with idle.worker(client=keyless):
        fresh = await idle.start(client=sealed)
        for handle in (fresh, old):
            words = await in_words(idle.run(handle).status)
            assert "Its worker cannot read it" in words and "No worker answers" not in words
        assert "Put that key into TEMPORAL_ENCRYPTION_KEY" in await in_words(idle.run(fresh).status)
    for handle in (new, old, fresh):
        await handle.terminate()
    idle.started.clear()  # they cannot be read here


async def reads(bench: Bench, codec: EncryptionCodec) -> Client:
    """A client with a codec of its own."""
    address = bench.client.service_client.config.target_host
    converter = replace(DataConverter.default, payload_codec=codec)
    return await Client.connect(address, data_converter=converter)


async def bench_until_approval(bench: Bench, client: Client, handle: Handle) -> None:
    own = client.get_workflow_handle(handle.id, result_type=Status)
    await eventually(lambda: bench.status(own), lambda status: status.awaiting_approval)


async def test_a_paused_workflow_hides_no_other(bench: Bench) -> None:
    """The SDK's own calls fail at a status that it does not know; the list must not."""
    other, handle = await bench.awaiting(), await bench.awaiting()
    await temporal(bench, "workflow", "pause", "--workflow-id", handle.id, "--reason", "lunch")
    view = await look(bench.client, handle.id)
    assert view.headline() == "awaiting_prod_approval: paused"
    assert view.rows()[5][1] == "paused"
    assert view.remark == (
        f"An operator paused it. Go on: temporal workflow unpause --workflow-id {handle.id}"
    )
    assert (await listed(bench, handle, "paused")).state == "running"
    await listed(bench, other, runs.WAITING)
    assert "An operator paused it." in await in_words(bench.run(handle).status)
    for one in (handle, other):
        await one.terminate()


# ---------------------------------------------------------------- busy is not absent


@pytest.mark.parametrize(
    ("asked", "waiting", "since", "busy", "there"),
    [
        (None, 9, 2, False, False),  # nobody has ever asked for work
        (0.5, 0, 2, True, True),  # somebody came for work while the question waited
        (5, 40, 2, True, True),  # all its slots are taken
        (5, 0, 2, False, True),  # nothing waits: it would have answered
        (30, 40, 2, False, True),  # long silent: whatever waits, nobody takes it
        (200, 0, 2, False, False),
    ],
)
def test_busy_or_absent(
    asked: float | None, waiting: int, since: float, busy: bool, there: bool
) -> None:
    queue = Queue("q", asked, waiting)
    assert (queue.is_busy(since), queue.has_worker()) == (busy, there)


async def test_a_busy_worker_is_not_absent(idle: Bench, impatient: None) -> None:
    """Its only slot for workflow tasks is taken again and again by others."""
    handle = await idle.start()
    one = ThreadPoolExecutor(1)
    async with idle.worker(
        workflow_task_executor=one, max_concurrent_workflow_tasks=2, max_cached_workflows=0
    ):
        await idle.until(handle, "awaiting_prod_approval")
        others = [await idle.start() for _ in range(5)]
        one.submit(time.sleep, 1.8)
        words = await in_words(look_at_once_in(idle, handle))
        assert "Its worker is busy: it asked for work " in words and "Nothing is lost." in words
        assert "No worker answers" not in words
        await eventually(lambda: idle.status(handle), lambda status: status.awaiting_approval)
    for each in (handle, *others):
        await each.terminate()


def look_at_once_in(bench: Bench, handle: Handle) -> Callable[[], object]:
    loop = bench.run(handle)._loop
    return lambda: loop.call(lambda client: ask_status(client, handle.id, 0.5))
