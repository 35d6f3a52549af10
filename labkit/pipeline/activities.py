"""The activities: the work. Each may be tried many times, so each may be done twice unharmed.

They are plain functions, which the worker runs in threads: none of them blocks its event loop.
Two import what is heavy when they need it, so that a query from a shell need not load scikit-learn.
"""

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

from temporalio import activity

from labkit.core.files import sha256, write_atomically
from labkit.core.settings import LabError, config_file, paths
from labkit.pipeline.errors import fail_fast
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
from labkit.pipeline.work import deployment, tracking


@contextmanager
def _beating(*progress: Any) -> Iterator[None]:
    """Tell Temporal every second that this worker lives, however long the work takes."""
    done, context = threading.Event(), contextvars.copy_context()

    def beat() -> None:
        while not done.wait(1):
            activity.heartbeat(*progress)

    thread = threading.Thread(target=context.run, args=(beat,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@activity.defn
@_beating()
def preprocess_data(request: PreprocessInput) -> Dataset:
    """Check the bytes that triggered the run, and write them as a table to train on."""
    from labkit.pipeline.work.data import misalign_labels, read_table

    name = PurePath(request.dataset_path).name
    source = _below_data(request.snapshot_path or request.dataset_path)
    table = read_table(source, name)
    if request.sha256 and sha256(source) != request.sha256:
        raise fail_fast("InvalidData", f"{source} is not what was dropped. Drop {name} again.")
    if request.misalign_labels:
        table = misalign_labels(table)
    path = paths().processed / f"{request.model_id}.csv"
    write_atomically(path, table.to_csv(index=False).encode())
    return Dataset(paths().name(path), len(table), request.misalign_labels)


def _below_data(name: str) -> Path:
    """The file that a request names: whoever may start a workflow may write any name into it.

    Any of these folders may be a link, to another disk say: what counts is where things lie.
    """
    path = paths().find(name)
    homes = (paths().data, paths().raw, paths().processed, paths().example.parent)
    with suppress(ValueError):  # a NUL byte
        if any(path.resolve().is_relative_to(home.resolve()) for home in homes):
            return path
    raise fail_fast("InvalidData", f"{name!r} is not below data/. Copy it to data/raw.")


@activity.defn
def train_model(request: TrainInput) -> Model:
    """Train, tell Temporal how far it is, and go on from the last step after a crash."""
    import pandas as pd

    from labkit.pipeline.work.training import train

    progress = {"trees": 0, "of": Hyperparameters().n_estimators}

    def heartbeat(trees: int) -> None:
        progress["trees"] = trees
        activity.heartbeat(progress)

    path = paths().find(request.dataset.path)
    if not path.exists():
        raise fail_fast("FileNotFound", f"{path} is gone. Drop the CSV again.")
    with _beating(progress):
        folder = paths().models / request.model_id
        return train(pd.read_csv(path), request.model_id, folder, heartbeat)


@activity.defn
@_beating()
def log_experiment(request: Experiment) -> int:
    """Write one row to ``experiments``: a retry after a lost answer finds it there."""
    return tracking.log_experiment(*_workflow_and_run(), request)


@activity.defn
@_beating()
def record_approval(approval: Approval) -> int:
    """Write one row to ``approvals``, in the same way."""
    return tracking.record_approval(*_workflow_and_run(), approval)


def _workflow_and_run() -> tuple[str, str]:
    """The two ids that a row belongs to."""
    info = activity.info()
    assert info.workflow_id and info.workflow_run_id, "a row belongs to a workflow"
    return info.workflow_id, info.workflow_run_id


@activity.defn
def assess_model_quality(metrics: QualityMetrics) -> QualityReport:
    """Compare the figures on held-out rows with ``config/quality_gate.yml``."""
    try:
        gate = {name: float(value) for name, value in config_file("quality_gate.yml").items()}
        reasons = [
            f"{name} {value:.2f} is {'above' if name == 'mae' else 'below'} {gate[name]:.2f}"
            for name, value, falls_short in (
                ("accuracy", metrics.accuracy, metrics.accuracy < gate["accuracy"]),
                ("mae", metrics.mae, metrics.mae > gate["mae"]),
                ("r2_score", metrics.r2_score, metrics.r2_score < gate["r2_score"]),
            )
            if falls_short
        ]
        asks = not reasons and metrics.accuracy > gate["approval_accuracy"]
    except (LabError, KeyError, TypeError, ValueError) as err:
        path = paths().config / "quality_gate.yml"
        raise fail_fast(
            "InvalidSettings", f"{path} cannot be used: {err}. It needs four numbers."
        ) from None
    return QualityReport(not reasons, asks, reasons)


@activity.defn
@_beating()
def deploy_to_environment(request: DeployInput) -> Deployment:
    """Put a model into service and ask it for a real prediction, or put things back."""
    try:
        return deployment.deploy(request.environment, request.model)
    except LabError as err:
        raise fail_fast("InvalidSettings", str(err)) from None


@activity.defn
@_beating()
def restore_previous_model(request: DeployInput) -> str | None:
    """The compensation: whatever served before a failed deployment serves again."""
    return deployment.withdraw(request.environment, request.model.model_id)


ALL: list[Callable[..., Any]] = [
    preprocess_data,
    train_model,
    log_experiment,
    record_approval,
    assess_model_quality,
    deploy_to_environment,
    restore_previous_model,
]
