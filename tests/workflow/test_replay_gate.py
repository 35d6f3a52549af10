"""The gate: recorded histories of every kind of run, and of every version, replay with this code.

Whoever changes the workflow so that a run which waits could not go on is told here, and may keep
the old path with ``workflow.patched``. A new kind of run: ``python -m tests.workflow.record``.
"""

import re
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from labkit.ask.client import runtime
from labkit.ask.history import timers
from labkit.bench.words import quoted
from labkit.pipeline.messages import Model, QualityReport
from labkit.pipeline.workflow import MLOpsWorkflow
from tests.workflow.record import CONVERTER, HISTORIES, KINDS, OPEN, record

# What the code did when they were recorded: no row for a decision; no merged search attributes;
# the platform's faults used up attempts; each step was listed at once. Then the versions, as
# ``pyproject.toml`` names them.
FOLDERS = ["unrecorded", "upserts", "counted", "listed", version("labkit")]
TRACES = (
    *(f"/{top}/" for top in ("work", "root", "home", "Users", "tmp")),
    "site-packages",
    'File \\"',
)
MINUTE, ASSESS = timedelta(minutes=1), MLOpsWorkflow._assess


async def gate(folder: Path, runner: WorkflowRunner | None = None) -> dict[str, str]:
    """The histories of a folder that this code does not replay, with the reason.

    Raises:
        ValueError: there are none, or one has no events, so that nothing would be checked.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"No histories are in {folder.name}: nothing would be checked.")
    said = {file.stem: await difference(file, runner) for file in files}
    return {name: words for name, words in said.items() if words}


async def difference(file: Path, runner: WorkflowRunner | None) -> str:
    history = WorkflowHistory.from_json(f"mlops-{file.stem}", file.read_text(encoding="utf-8"))
    if not history.events:
        raise ValueError(f"{file.name} has no events.")
    replayer = Replayer(
        workflows=[MLOpsWorkflow],
        data_converter=CONVERTER,
        workflow_runner=runner or SandboxedWorkflowRunner(),
        runtime=runtime(),
    )
    outcome = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    return quoted(outcome.replay_failure) if outcome.replay_failure else ""


@pytest.mark.parametrize("folder", FOLDERS)
async def test_recorded_runs_replay(folder: str) -> None:
    assert await gate(HISTORIES / folder) == {}


def test_no_folder_is_left_out() -> None:
    assert {path.name for path in HISTORIES.iterdir()} >= set(FOLDERS)
    released = {path.name for path in HISTORIES.iterdir() if path.name[0].isdigit()}
    assert {path.name for path in HISTORIES.iterdir()} == set(FOLDERS) | released


@pytest.mark.parametrize("folder", sorted(path.name for path in HISTORIES.iterdir()))
def test_every_version_has_some(folder: str) -> None:
    assert list((HISTORIES / folder).glob("*.json"))


def test_every_kind_is_recorded() -> None:
    """After a new kind, or a new version: python -m tests.workflow.record"""
    recorded = {path.stem for path in (HISTORIES / version("labkit")).glob("*.json")}
    assert recorded == set(KINDS)


def test_the_open_ones_wait_still() -> None:
    for name in OPEN:
        text = (HISTORIES / version("labkit") / f"{name}.json").read_text(encoding="utf-8")
        history = WorkflowHistory.from_json("open", text)
        assert not history.events[-1].HasField("workflow_execution_completed_event_attributes")
        assert "TIMER_STARTED" in text and timers(history)[-1] == timedelta(days=90)


@pytest.mark.parametrize("path", sorted(HISTORIES.glob("*/*.json")), ids=lambda p: p.stem)
def test_they_say_nothing_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [trace for trace in TRACES if trace in text]
    assert not re.search(r"\d+@", text), "the name of a process"


@pytest.mark.parametrize("name", ["rejected", "expired", "cancelled-at-work", "encrypted"])
async def test_they_can_be_recorded_again(client: Client, tmp_path: Path, name: str) -> None:
    text = await record(name, client)
    assert not re.search(r"\d+@", text)
    (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    assert await gate(tmp_path) == {}


# --- it can fail ---------------------------------------------------------------------------------


async def one_more_activity(run: Any, model: Model) -> QualityReport:
    await workflow.execute_activity("explain_model", start_to_close_timeout=MINUTE)
    return await ASSESS(run, model)


async def a_pause(run: Any, model: Model) -> QualityReport:
    await workflow.sleep(1)
    return await ASSESS(run, model)


async def another_order(run: Any) -> None:
    dataset = await run._preprocess()
    model = await run._train(dataset)
    await run._assess(model)
    await run._track(model)


async def without_a_wait(run: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("_assess", one_more_activity),
        ("_assess", a_pause),
        ("_pipeline", another_order),
        ("_approved", without_a_wait),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
async def test_a_change_that_breaks_a_waiting_run_fails(
    monkeypatch: pytest.MonkeyPatch, method: str, change: Any
) -> None:
    monkeypatch.setattr(MLOpsWorkflow, method, change)
    failed = await gate(HISTORIES / version("labkit"), UnsandboxedWorkflowRunner())
    assert "[TMPRL1100] Nondeterminism error" in failed["waiting"]


async def test_the_same_change_as_a_patch_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def patched(run: Any, model: Model) -> QualityReport:
        if workflow.patched("explain"):
            return await one_more_activity(run, model)
        return await ASSESS(run, model)

    monkeypatch.setattr(MLOpsWorkflow, "_assess", patched)
    assert await gate(HISTORIES / version("labkit"), UnsandboxedWorkflowRunner()) == {}


async def test_nothing_to_check_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No histories are in"):
        await gate(tmp_path)
    (tmp_path / "empty.json").write_text('{"events": []}')
    with pytest.raises(ValueError, match=r"empty\.json has no events"):
        await gate(tmp_path)
