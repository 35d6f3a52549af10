"""Exercises of notebook 02."""

from labkit.exercises.core import Question


def _attempts(answer: int) -> None:
    assert isinstance(answer, int), "the answer is a whole number."
    assert answer == 3, "look at PREPROCESS in the policies: how many attempts does it allow?"


q1 = Question(
    _attempts,
    hint="The number of attempts counts the first one, too.",
    solution="Three attempts, so two gaps. Then the activity fails, and the workflow with it.",
)


def _sixth_gap(answer: float) -> None:
    assert isinstance(answer, int | float), "the answer is a number of seconds."
    assert answer != 160, "160 s would be doubled once more. But there is a longest interval."
    assert answer == 120, "start at 5 s, double it for each further gap, and mind the longest."


q2 = Question(
    _sixth_gap,
    hint="5, 10, 20, 40, 80, and then?",
    solution="5, 10, 20, 40, 80, 120: the sixth would be 160 s, and the policy stops at 120 s.",
)
