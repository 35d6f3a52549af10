"""What notebook 05 asks before a run."""

from typing import Any

from labkit.bench import Prediction
from labkit.core.journal import attempts_of


def _attempts(run: Any) -> tuple[int, str]:
    return _count(run, "log_experiment"), "the activity itself said that no other should follow."


def _trainings(run: Any) -> tuple[int, str]:
    return _count(run, "train_model"), "the new run got its result from the copied history."


def _count(run: Any, activity_id: str) -> int:
    """The attempts in the ledger, which counts over all runs of the workflow id."""
    return len([a for a in attempts_of(run.id) if a.activity_id == activity_id])


attempts = Prediction("How many attempts will log_experiment get?", _attempts)
trainings = Prediction("How many trainings will there be in both runs together?", _trainings)
