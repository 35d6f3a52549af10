"""The activities: the work. Each may be tried many times, so each may be done twice unharmed.

They are plain functions, which the worker runs in threads. One that is cancelled is not broken off
by an exception: it ends its work, or asks, as training does. Two import what is heavy when they
need it.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import PurePath
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError

from labkit.core.files import sha256, write_atomically
from labkit.core.settings import paths
from labkit.pipeline.errors import fail_fast, wrong_settings_fail_fast
from labkit.pipeline.messages import (
    Approval,
    Dataset,
    DeployInput,
    Deployment,
    Experiment,
    Hyperparameters,
    Model,
    PreprocessInput,
    QualityMetrics,
    QualityReport,
    TrainInput,
)
from labkit.pipeline.work import deployment, description, quality, tracking
from labkit.pipeline.work.heartbeats import heartbeats


@activity.defn(no_thread_cancel_exception=True)
def preprocess_data(request: PreprocessInput) -> Dataset:
    """Check the bytes that triggered the run, and write a table to train on."""
    from labkit.pipeline.work.data import below_data, misalign_labels, read_table

    with wrong_settings_fail_fast(), heartbeats():
        name = PurePath(request.dataset_path).name
        source = below_data(request.snapshot_path or request.dataset_path)
        described = description.of_run(request.model_id)
        table = read_table(source, name, described)
        if request.sha256 and sha256(source) != request.sha256:
            raise fail_fast("InvalidData", f"{source} is not what was dropped. Drop {name} again.")
        if request.misalign_labels:
            table = misalign_labels(table)
        description.keep(request.model_id, described)
        path = paths().processed / f"{request.model_id}.csv"
        write_atomically(path, table.to_csv(index=False).encode())
        return Dataset(paths().name(path), len(table), request.misalign_labels)


@activity.defn(no_thread_cancel_exception=True)
def train_model(request: TrainInput) -> Model:
    """Train, tell Temporal how far it is, and go on after a crash."""
    from labkit.pipeline.work.data import read_checked
    from labkit.pipeline.work.training import train

    progress = {"trees": 0, "of": Hyperparameters().n_estimators}

    def heartbeat(trees: int) -> None:
        progress["trees"] = trees
        activity.heartbeat(progress)
        if activity.is_cancelled():
            raise CancelledError("cancelled between two steps of the training")
        if activity.is_worker_shutdown():  # all is saved, and the next worker need not wait
            delay = timedelta(milliseconds=1)
            raise ApplicationError("the worker stops", type="WorkerStops", next_retry_delay=delay)

    path = paths().find(request.dataset.path)
    if not path.exists():
        raise fail_fast("FileNotFound", f"{path} is gone. Drop the CSV again.")
    with wrong_settings_fail_fast(), heartbeats(progress):
        folder, described = paths().models / request.model_id, description.of_run(request.model_id)
        return train(read_checked(path, described), request.model_id, folder, heartbeat, described)


@activity.defn(no_thread_cancel_exception=True)
def log_experiment(request: Experiment) -> int:
    """Write one row: a retry after a lost answer finds it there."""
    with heartbeats():
        return tracking.log_experiment(*_workflow_and_run(), request)


@activity.defn(no_thread_cancel_exception=True)
def record_approval(approval: Approval) -> int:
    """The same for ``approvals``."""
    with heartbeats():
        return tracking.record_approval(*_workflow_and_run(), approval)


def _workflow_and_run() -> tuple[str, str]:
    """The two ids that a row belongs to."""
    info = activity.info()
    assert info.workflow_id and info.workflow_run_id, "a row belongs to a workflow"
    return info.workflow_id, info.workflow_run_id


@activity.defn(no_thread_cancel_exception=True)
def assess_model_quality(metrics: QualityMetrics) -> QualityReport:
    """Compare the figures with the thresholds."""
    with wrong_settings_fail_fast():
        return quality.assess(metrics)


@activity.defn(no_thread_cancel_exception=True)
def deploy_to_environment(request: DeployInput) -> Deployment:
    """Put a model into service, and ask it for a real prediction."""
    with wrong_settings_fail_fast(), heartbeats():
        return deployment.deploy(request.environment, request.model, request.order)


@activity.defn(no_thread_cancel_exception=True)
def restore_previous_model(request: DeployInput) -> str | None:
    """The compensation: whatever served before a failed deployment serves again."""
    with heartbeats():
        return deployment.withdraw(request.environment, request.model.model_id, request.order)


ALL: list[Callable[..., Any]] = [
    preprocess_data,
    train_model,
    log_experiment,
    record_approval,
    assess_model_quality,
    deploy_to_environment,
    restore_previous_model,
]
