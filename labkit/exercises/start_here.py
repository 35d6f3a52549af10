"""Exercises of notebook 00."""

from labkit.exercises.core import Question


def _who_runs(answer: str) -> None:
    word = str(answer).strip().lower().removeprefix("the ")
    assert word != "temporal server", "the server stores history and hands out tasks; it runs none."
    assert word != "workflow", "a workflow is code. Something has to run it."
    assert word == "worker", "look at the table again: which row runs code?"


q1 = Question(
    _who_runs,
    hint="It polls a task queue, and in this lab it lives in a thread of your notebook's kernel.",
    solution="The worker runs workflow and activity code; the server only remembers and hands out.",
)


def _attempts(answer: int) -> None:
    assert isinstance(answer, int), "the answer is a whole number."
    assert answer == 1, "the error is marked as one that no retry can mend."


q2 = Question(
    _attempts,
    hint="Look at the attempts column that lab.run(...).activities() prints.",
    solution="One attempt: a file with too few rows has too few rows the next time, too.",
)
