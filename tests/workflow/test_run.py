"""A run as a notebook sees it: it ends, or says in words why it does not."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from labkit.ask import history
from labkit.ask.look import View, look
from labkit.core.settings import LabError
from labkit.pipeline.messages import STEPS, Decision, QualityMetrics, Status
from labkit.run import Run
from labkit.views.progress import as_html
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
    assert out.endswith("completed: deployed to prod\n")
    await asyncio.to_thread(run.follow)
    await asyncio.to_thread(run.activities)
    assert "deploy_to_prod        1         completed" in capsys.readouterr().out
    await asyncio.to_thread(run.prove, "train_model")
    proved = "Proved: train_model was asked for once, tried once, and completed.\n"
    assert capsys.readouterr().out == proved
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
        Run("any", lambda make: pytest.fail("nobody is asked")).follow(until=step)


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
        f"{run.id} is not there after 0.1 s. It is at log_experiment, attempt 2, "
        "after: ConnectionRefused: ConnectionRefused on purpose"
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
    assert "It is at train_model, attempt 1" in await in_words(run.follow, "completed", 0.1)
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
    for method in ("describe", "query"):
        monkeypatch.setattr(WorkflowHandle, method, refused)
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
    assert Run("a b/ü", lambda make: pytest.fail("nobody is asked")).url == (
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


@pytest.mark.parametrize("name", STATES)
def test_the_text_of_each_state(name: str) -> None:
    view, text = STATES[name]
    assert view.text() == text
    html = as_html(view)
    for step, word, _ in view.rows():
        assert step in html and word in html


def test_html_is_escaped() -> None:
    view = View(status("completed", 6, failure_reason="<script>"), "completed")
    assert "<script>" not in as_html(view)


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
            f"after: {'x' * 100}",
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
