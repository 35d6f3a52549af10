"""Exercises of notebook 07."""

from labkit.exercises.core import Question


def _first_tree(answer: int) -> None:
    assert isinstance(answer, int), "the answer is a whole number."
    assert answer != 1, "thirty trees were saved. Nobody throws them away."
    assert answer not in range(32, 41), "a step is saved as a whole, when all of it is trained."
    assert answer != 41, "the trees 31 to 40 were under way, so they were not saved."
    assert answer == 31, "which trees are on the disk, and which is the next one?"


q1 = Question(
    _first_tree,
    hint="Which trees are on the disk? A step is saved as a whole.",
    solution="31: what was saved is not trained again, and the step that was under way is lost.",
)


def _minutes(answer: float) -> None:
    assert isinstance(answer, int | float), "the answer is a number of minutes."
    assert answer != 25, "nobody tells the server that the training would have been done by now."
    assert answer not in (0, 1), "what would tell the server that the worker is dead?"
    assert answer == 30, "without heartbeats, only one limit is left. Which one?"


q2 = Question(
    _minutes,
    hint="The server cannot tell a dead worker from a busy one. Only a limit can.",
    solution="30: the whole start-to-close timeout. With a heartbeat it would be seconds.",
)
