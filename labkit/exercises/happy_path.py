"""Exercises of notebook 01."""

from labkit.exercises.core import NotAttempted, Question
from labkit.run import Run


def _count(answer: int) -> None:
    assert isinstance(answer, int), "the answer is a whole number."
    assert answer != 4, "count the deployment to dev too: it comes before the human."
    assert answer != 6, "prod comes after the human, not before."
    assert answer == 5, "count the calls of self._… that run an activity, down to the approval."


q1 = Question(
    _count,
    hint="Each of _preprocess, _train, _track, _assess and _deploy runs one activity.",
    solution="Five: preprocess, train, log, assess, and the deployment to dev.",
)


def _rejected(run: Run) -> None:
    status = run.status()
    if status.awaiting_approval:
        raise NotAttempted("the run still waits for your decision.")
    assert status.decision is not None, "this run never asked for a decision. Drop a good file."
    assert not status.decision.approved, "this model was approved. Drop the file again and reject."
    assert status.decision.reason, "the rejection has no reason. Whoever reads it wants one."
    assert "prod" not in status.deployments, "the model went to prod all the same."


q2 = Question(
    _rejected,
    hint="run.reject(by=..., reason=...), or the signal reject_prod_deployment with args=[...].",
    solution="The rejection and its reason are part of the run's history, and prod is untouched.",
)
