"""What notebook 08 asks before it looks."""

from typing import Any

from labkit.ask.history import activities
from labkit.bench import Prediction


def _first_tree(run: Any) -> tuple[int, str]:
    """The first one that the second process trained."""
    steps = run.training()
    first = next(step.first for step in steps if step.pid != steps[0].pid)
    return first, "what was saved is not trained again, and the step that was under way is lost."


def _attempts(run: Any) -> tuple[int, str]:
    (record,) = (a for a in activities(run.history()) if a.activity_id == "train_model")
    return record.attempts, "the first worker handed its work back, and the next one took it up."


first_tree = Prediction("Which tree will the second worker train first?", _first_tree)
attempts = Prediction("How many attempts will the training need?", _attempts)
