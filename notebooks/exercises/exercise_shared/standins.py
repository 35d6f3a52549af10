"""The lab's own workflow with stand-ins for its activities: a whole run in a tenth of a second.

For exercises on what goes on around the pipeline: decisions, waiting, histories. A file named
``good…`` waits for a decision, one named ``bad…`` fails the quality gate, and one named
``broken…`` fails preprocessing. The ledger says what was written and deployed.
"""

from collections.abc import Callable
from typing import Any

from temporalio import activity, workflow

from labkit.bench.ledger import effect
from labkit.bench.outcome import Try
from labkit.bench.tries import try_out
from labkit.pipeline.errors import fail_fast
from labkit.pipeline.messages import (
    Approval,
    Dataset,
    DeployInput,
    Deployment,
    Experiment,
    Hyperparameters,
    Model,
    PipelineInput,
    PreprocessInput,
    QualityMetrics,
    QualityReport,
    Status,
    TrainInput,
)
from labkit.pipeline.workflow import MLOpsWorkflow

GOOD, BAD = QualityMetrics(0.88, 1.5, 0.57), QualityMetrics(0.74, 2.2, 0.10)


@workflow.defn(name="PipelineTry")
class Pipeline(MLOpsWorkflow):
    """The same code under another name, so that the lab does not list tries among its runs."""

    @workflow.init
    def __init__(self, request: PipelineInput) -> None:
        super().__init__(request)

    @workflow.run
    async def run(self, request: PipelineInput) -> Status:
        return await super().run(request)


@activity.defn
def preprocess_data(request: PreprocessInput) -> Dataset:
    if "/broken" in request.dataset_path:
        raise fail_fast("InvalidData", f"{request.dataset_path} is binary, not text.")
    return Dataset("data/processed/try.csv", 4177, request.misalign_labels)


@activity.defn
def train_model(request: TrainInput) -> Model:
    return Model(
        model_id=request.model_id,
        artifact_path="data/models/try.joblib",
        sha256="0" * 64,
        hyperparameters=Hyperparameters(),
        metrics=BAD if request.dataset.labels_misaligned else GOOD,
        samples=request.dataset.rows,
        started_at="2026-01-01T00:00:00+00:00",
        completed_at="2026-01-01T00:00:01+00:00",
        seconds=1.0,
        probe=[{"sex": "M", "length": 0.5}],
        expected=[9.5],
    )


@activity.defn
def log_experiment(request: Experiment) -> int:
    effect("experiment")
    return 1


@activity.defn
def record_approval(approval: Approval) -> int:
    effect([approval.outcome, approval.by, approval.reason])
    return 1


@activity.defn
def assess_model_quality(metrics: QualityMetrics) -> QualityReport:
    low = metrics.accuracy < 0.80
    reasons = [f"accuracy {metrics.accuracy:.2f} is below 0.80"] if low else []
    return QualityReport(not low, not low, reasons)


@activity.defn
def deploy_to_environment(request: DeployInput) -> Deployment:
    effect(request.environment)
    url = f"http://{request.environment}/models/{request.model.model_id}/predict"
    return Deployment(request.environment, request.model.model_id, url)


@activity.defn
def restore_previous_model(request: DeployInput) -> str | None:
    effect(f"{request.environment} restored")
    return None


STAND_INS: list[Callable[..., Any]] = [
    preprocess_data,
    train_model,
    log_experiment,
    record_approval,
    assess_model_quality,
    deploy_to_environment,
    restore_previous_model,
]


def try_pipeline(name: str = "good.csv", approval_days: float = 30, **options: Any) -> Try:
    """Run the pipeline for a file of that name. Retries come a thousand times sooner.

    Args:
        options: as of :func:`try_out`.
    """
    request = PipelineInput(f"data/raw/{name}", speed=1000, approval_days=approval_days)
    return try_out(Pipeline, request, activities=STAND_INS, **options)
