"""What travels between the workflow, its activities and its callers: small, typed, by value.

Data sets and models stay on disk. Messages carry their paths, relative to the lab's folder, and
their sha256, because everything in a message is stored in the event history.
"""

from dataclasses import dataclass, field

WORKFLOW_TYPE = "MLOpsWorkflow"

STEPS = (
    "data_preprocessing",
    "model_training",
    "experiment_tracking",
    "quality_assessment",
    "dev_deployment",
    "awaiting_prod_approval",
    "prod_deployment",
    "completed",
)

# The outcome of a run in words, by its status of deployment. The gate comes before any deployment.
OUTCOMES = {
    "deployed_to_prod": "on prod",
    "deployed_to_dev": "stays on dev",
    "prod_rejected": "rejected",
    "approval_expired": "expired",
    "not_deployed": "stopped by the gate",
}


@dataclass(frozen=True)
class ProprietaryConfig:
    """The secret recipe: what a company would not want others to read.

    It stands for the settings of a neural network. The forest needs none of them, so they change
    no figure. They travel with the training input as real ones would.
    """

    architecture: str = "AbaloneNet-7"
    learning_rate_multiplier: float = 1.7320508
    regularisation: float = 0.0031416
    dropout_schedule: list[float] = field(default_factory=lambda: [0.5, 0.35, 0.2, 0.05])


@dataclass
class PipelineInput:
    """Starts a pipeline. Only ``dataset_path`` is needed; the watcher fills in the rest.

    ``snapshot_path`` and ``sha256`` pin the bytes that triggered the run, so that replacing the
    file later changes nothing. Retry intervals are divided by ``speed``. A request for approval
    expires after ``approval_days``; a second is about 0.00001 of them. ``other_files`` says what
    becomes of a file whose name begins with neither good nor bad: ``coin`` or ``good``.
    """

    dataset_path: str
    snapshot_path: str | None = None
    sha256: str | None = None
    speed: float = 1.0
    approval_days: float = 30.0
    proprietary_config: ProprietaryConfig = ProprietaryConfig()
    other_files: str = "coin"


@dataclass
class PreprocessInput:
    model_id: str
    dataset_path: str
    snapshot_path: str | None
    sha256: str | None
    misalign_labels: bool


@dataclass
class Dataset:
    """A checked CSV with a header, ready to train on."""

    path: str
    rows: int
    labels_misaligned: bool


@dataclass
class QualityMetrics:
    """On held-out rows: share ``within`` so many units, mean absolute error in them, and R².

    ``limits`` are the thresholds of the data set's own gate, if its description has one.
    """

    accuracy: float
    mae: float
    r2_score: float
    within: float = field(default=3, repr=False)
    unit: str = field(default="rings", repr=False)
    limits: dict[str, float] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Hyperparameters:
    """What decides the figures, given the data."""

    model: str = "RandomForestRegressor"
    n_estimators: int = 100
    max_depth: int = 10
    random_state: int = 42
    test_size: float = 0.2


@dataclass
class TrainInput:
    model_id: str
    dataset: Dataset
    proprietary_config: ProprietaryConfig = ProprietaryConfig()


@dataclass
class Model:
    """A trained model. ``probe`` holds held-out rows and ``expected`` its predictions for them.

    ``scikit_learn`` is the version that can surely load it, and ``description`` the sha256 of what
    the columns of its data were.
    """

    model_id: str
    artifact_path: str
    sha256: str
    hyperparameters: Hyperparameters
    metrics: QualityMetrics
    samples: int
    started_at: str
    completed_at: str
    seconds: float
    probe: list[dict[str, float | str | None]]
    expected: list[float]
    scikit_learn: str = ""
    description: str = ""


@dataclass
class Experiment:
    dataset_path: str
    model: Model


@dataclass
class QualityReport:
    """The gate's answer: ``reasons`` names each figure that fell short."""

    passed: bool
    asks_for_approval: bool
    reasons: list[str]


@dataclass
class DeployInput:
    """``order`` is the workflow's time of the deployment: of two, the later one is current."""

    environment: str
    model: Model
    order: str = ""


@dataclass
class Deployment:
    """``current`` is the model that serves as current: another one, if it was deployed later."""

    environment: str
    model_id: str
    url: str
    current: str = ""


@dataclass
class Decision:
    """What a human said about prod: the argument of the update ``decide_prod_deployment``.

    ``at`` is the workflow's own time of it (ISO 8601, UTC), whatever the sender says.
    """

    approved: bool
    by: str = ""
    reason: str = ""
    at: str = ""


@dataclass
class Status:
    """The answer of the query ``get_status``, and the result of the workflow.

    Times are the workflow's own, in ISO 8601 and UTC; empty before approval was asked for.
    ``trouble`` is what the platform failed at, while an activity is asked for again. ``superseded``
    names the model that is current in an environment because it was deployed later than this one.
    """

    workflow_id: str
    dataset_path: str
    current_step: str = ""
    completed_steps: list[str] = field(default_factory=list)
    awaiting_approval: bool = False
    prod_approved: bool = False
    quality_gate_failed: bool = False
    deployment_status: str = "not_deployed"
    failure_reason: str = ""
    quality_metrics: QualityMetrics | None = None
    model_id: str = ""
    labels_misaligned: bool | None = None
    deployments: dict[str, str] = field(default_factory=dict)
    decision: Decision | None = None
    approval_asked: str = ""
    approval_deadline: str = ""
    trouble: str = ""
    superseded: dict[str, str] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """What came of the run, once it has completed, in words."""
        return OUTCOMES[self.deployment_status]


@dataclass
class Approval:
    """How a request for approval ended: ``outcome`` is approved, rejected or expired."""

    model_id: str
    outcome: str
    by: str
    reason: str
    at: str

    @classmethod
    def of(cls, status: Status, now: str) -> "Approval":
        """How the request of a run has ended; ``now`` is when, if nobody decided."""
        if decision := status.decision:
            outcome = "approved" if decision.approved else "rejected"
            return cls(status.model_id, outcome, decision.by, decision.reason, decision.at)
        return cls(status.model_id, "expired", "", status.failure_reason, now)
