"""The quality gate: a model's figures beside the thresholds.

Those are its data set's own, or else the ones of ``config/quality_gate.yml``.
"""

import operator
from dataclasses import dataclass

from labkit.core.settings import LabError, config_file, paths
from labkit.pipeline.messages import QualityMetrics, QualityReport

MUST_BE = {"at least": operator.ge, "at most": operator.le, "above": operator.gt}
APPROVAL = "approval_accuracy"


@dataclass(frozen=True)
class Row:
    """One threshold: ``name`` as in the file, ``label`` for humans, and what the figure must be."""

    name: str
    label: str
    value: float
    must_be: str
    limit: float

    @property
    def ok(self) -> bool:
        return MUST_BE[self.must_be](self.value, self.limit)


def gate(metrics: QualityMetrics) -> list[Row]:
    """The four thresholds, of which the last one only decides whether prod is asked for.

    Raises:
        LabError: the file cannot be used.
    """
    figures = (
        (
            "accuracy",
            f"accuracy (within {metrics.within:g} {metrics.unit})",
            metrics.accuracy,
            "at least",
        ),
        ("mae", f"MAE in {metrics.unit}", metrics.mae, "at most"),
        ("r2_score", "R²", metrics.r2_score, "at least"),
        (APPROVAL, "accuracy, to ask for prod", metrics.accuracy, "above"),
    )
    try:
        given = metrics.limits or config_file("quality_gate.yml")
        limits = {name: float(limit) for name, limit in given.items()}
        return [Row(*figure, limits[figure[0]]) for figure in figures]
    except (LabError, KeyError, TypeError, ValueError) as err:
        path = paths().config / "quality_gate.yml"
        raise LabError(f"{path} cannot be used: {err}. It needs four numbers.") from None


def assess(metrics: QualityMetrics) -> QualityReport:
    """Judge a model; the report names each figure that fell short.

    Raises:
        LabError: the thresholds cannot be used.
    """
    *figures, approval = gate(metrics)
    reasons = [
        f"{row.name} {row.value:.2f} is {'above' if row.must_be == 'at most' else 'below'} "
        f"{row.limit:.2f}"
        for row in figures
        if not row.ok
    ]
    return QualityReport(not reasons, not reasons and approval.ok, reasons)
