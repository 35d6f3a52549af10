"""Exercises of notebook 03."""

from labkit.exercises.core import Question


def _seconds(answer: float) -> None:
    assert isinstance(answer, int | float), "the answer is a number of seconds."
    assert answer != 64, "the seventh gap would be 128 s, if nothing capped it. Look at the list."
    assert answer == 60, "look at the gaps that next_gaps returned."


q1 = Question(
    _seconds,
    hint="It is the largest number in the list that next_gaps returned.",
    solution="60 s: however long the outage was, the pipeline goes on within a minute after it.",
)


def _rows(answer: int) -> None:
    assert isinstance(answer, int), "the answer is a whole number."
    assert answer == 1, "the INSERT says ON CONFLICT (workflow_id, run_id) DO NOTHING."


q2 = Question(
    _rows,
    hint="Suppose the row was committed, and the server died before it could say so.",
    solution="One: the retry finds the row of the first attempt. The activity is idempotent.",
)
