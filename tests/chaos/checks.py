"""What must be true when the storm is over."""

import asyncio
import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field

import httpx
import joblib
import psutil
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.converter import DataConverter
from temporalio.worker import Replayer

from labkit.ask.client import connect
from labkit.core.files import sha256
from labkit.core.lesson import changes
from labkit.core.record import model_server_url
from labkit.core.settings import paths
from labkit.pipeline.messages import DeployInput, Model, Status
from labkit.pipeline.work.registry import Registry
from labkit.pipeline.work.tracking import database
from labkit.pipeline.workflow import MLOpsWorkflow
from tests.chaos.harness import Chaos

DONE = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED


@dataclass
class Ended:
    """One workflow as its event history and its own query tell it."""

    id: str
    status: WorkflowExecutionStatus
    report: Status
    model: Model | None = None
    tracked: bool = False
    deployed: dict[str, str] = field(default_factory=dict)  # environment → the deployment's order


async def look(client: Client, id: str, status: WorkflowExecutionStatus) -> Ended:
    handle = client.get_workflow_handle(id)
    ended = Ended(id, status, await handle.query("get_status", result_type=Status))
    events = {event.event_id: event for event in (await handle.fetch_history()).events}
    for event in events.values():
        if event.event_type != DONE:
            continue
        done = event.activity_task_completed_event_attributes
        scheduled = events[done.scheduled_event_id].activity_task_scheduled_event_attributes
        if scheduled.activity_id == "train_model":
            [ended.model] = await DataConverter.default.decode(done.result.payloads, [Model])
        elif scheduled.activity_id == "log_experiment":
            ended.tracked = True
        elif scheduled.activity_id.startswith("deploy_to_"):
            [request] = await DataConverter.default.decode(scheduled.input.payloads, [DeployInput])
            ended.deployed[request.environment] = request.order
    return ended


async def look_at_all() -> list[Ended]:
    client = await connect()
    found = client.list_workflows("WorkflowType='MLOpsWorkflow'")
    return [await look(client, run.id, run.status) async for run in found if run.status]


def every_drop_has_one_workflow(chaos: Chaos, runs: list[Ended]) -> None:
    found = Counter(run.id for run in runs)
    assert set(found) == set(chaos.drops)
    assert set(found.values()) == {1}


def toll(chaos: Chaos, runs: list[Ended]) -> dict[str, list[str]]:
    """What the storm has cost, in words: nothing, if all is well."""
    times = Counter(run.id for run in runs)
    return {
        "lost": [f"{id} started nothing" for id in chaos.drops if not times[id]]
        + [f"{run.id}: {run.report.failure_reason}" for run in runs if _is_lost(chaos, run)],
        "twice": [id for id in times if times[id] > 1] + rows_twice(),
        "stuck": [run.id for run in runs if run.status == WorkflowExecutionStatus.RUNNING],
        "unreplayable": asyncio.run(unreplayable()),
    }


def _is_lost(chaos: Chaos, run: Ended) -> bool:
    """It could be trained on, and did not come to the end that its own figures decide."""
    fine = (WorkflowExecutionStatus.COMPLETED, WorkflowExecutionStatus.RUNNING)
    return run.id in chaos.drops and chaos.drops[run.id].valid and run.status not in fine


def rows_twice() -> list[str]:
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT workflow_id FROM experiments GROUP BY 1 HAVING count(*) > 1")
        return [f"a row of {id}" for (id,) in cursor.fetchall()]


async def unreplayable() -> list[str]:
    """The runs whose history the workflow cannot follow, each with the reason."""
    client = await connect()
    replayer = Replayer(workflows=[MLOpsWorkflow], data_converter=client.data_converter)
    found = []
    async for run in client.list_workflows("WorkflowType='MLOpsWorkflow'"):
        history = await client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        if result.replay_failure:
            found.append(f"{run.id}: {result.replay_failure}")
    return found


def each_ended_for_its_own_reason(chaos: Chaos, runs: list[Ended]) -> Counter[str]:
    """What can be trained on comes to its end, whatever hit the lab; only garbage fails.

    Returns how many ended how, in words.
    """
    outcomes: Counter[str] = Counter()
    for run in runs:
        reason = run.report.failure_reason or ""
        if run.status == WorkflowExecutionStatus.COMPLETED:
            assert chaos.drops[run.id].valid, f"{run.id} trained on garbage"
            assert run.report.current_step == "completed"
            outcomes[run.report.deployment_status or "stopped by the quality gate"] += 1
            continue
        assert run.status == WorkflowExecutionStatus.FAILED, f"{run.id}: {run.status.name}"
        assert not chaos.drops[run.id].valid, f"{run.id} could be trained on, and failed: {reason}"
        assert reason.startswith(("InvalidData: ", "InsufficientData: ")), f"{run.id}: {reason}"
        outcomes["failed: garbage is refused"] += 1
    return outcomes


def one_row_each(runs: list[Ended]) -> int:
    """Returns the number of rows."""
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT workflow_id, model_id FROM experiments")
        rows = Counter(cursor.fetchall())
    tracked = [(run.id, run.report.model_id) for run in runs if run.tracked]
    assert rows == Counter(tracked)
    return len(tracked)


def the_last_one_deployed_serves(environment: str, runs: list[Ended]) -> str | None:
    """The last one that was asked for, however late the others were done. Returns it."""
    orders = {
        run.report.model_id: run.deployed[environment]
        for run in runs
        if environment in run.deployed
    }
    serves = httpx.get(f"{model_server_url(environment)}/models", trust_env=False).json()
    assert serves["deployed"] == sorted(orders, key=lambda model: orders[model])
    assert serves["current"] == (serves["deployed"] or [None])[-1]
    return serves["current"]


def every_artifact_is_whole(runs: list[Ended]) -> int:
    """Returns how many files were read and loaded."""
    for run in runs:
        if run.model:
            assert sha256(paths().find(run.model.artifact_path)) == run.model.sha256, run.id
    files = [*paths().models.rglob("*.joblib"), *paths().deployments.rglob("*.joblib")]
    for path in files:
        joblib.load(path)
    for folder in paths().deployments.iterdir():
        registry = Registry(folder)
        assert registry.set_broken_aside() == []
        for model_id in registry.deployed():
            note = registry.find(model_id)
            assert note and registry.has_artifact(model_id, note.sha256), model_id
    for path in paths().processed.glob("?" * 64 + ".csv"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    return len(files)


def nothing_unfinished_is_left() -> None:
    folders = [paths().data, paths().config, *paths().lab.glob("[!p]*/")]
    hidden = [path for folder in folders for path in folder.rglob(".*") if path.is_file()]
    hidden += [
        path for path in (*paths().root.glob(".*"), *paths().lab.glob(".*")) if path.is_file()
    ]
    assert [path for path in hidden if path.name != ".env"] == []
    assert not changes()


def no_process_is_left() -> None:
    assert processes_left() == []


def processes_left() -> list[str]:
    """What still runs of this lab, this process aside."""
    home = str(paths().root)
    left: list[str] = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        if process.pid == os.getpid() or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        try:
            ours = process.environ().get("LABKIT_HOME") == home
            if ours or home in " ".join(process.info["cmdline"] or ()):
                left.append(f"{process.pid}: {process.info['cmdline']}")
        except psutil.Error:
            continue
    return left
