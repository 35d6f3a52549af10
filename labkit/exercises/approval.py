"""Exercises of notebook 06."""

from labkit.exercises.core import NotAttempted, Question
from labkit.run import Run


def _refusable(answer: str) -> None:
    word = str(answer).strip().strip("'\"").lower().removeprefix("an ").removeprefix("a ")
    assert word in ("signal", "query", "update"), "it is 'signal', 'query' or 'update'."
    assert word != "signal", "a signal is stored as it comes. The workflow can only ignore it."
    assert word != "query", "a query asks and changes nothing, so there is nothing to refuse."


q1 = Question(
    _refusable,
    hint="Which of the three has a validator in labkit/pipeline/workflow.py?",
    solution="The update: its validator runs before anything is stored, and the sender hears why.",
)


def _decided(run: Run) -> None:
    if run.status().awaiting_approval:
        raise NotAttempted("the run still waits for your decision.")
    rows = run.decisions()
    assert rows, "the table has no row yet. Wait for it with run.follow()."
    assert rows[-1]["outcome"] != "expired", "nobody decided in time. Drop the file again."
    assert rows[-1]["decided_by"], "the row names nobody. A signal without a name is like that."


q2 = Question(
    _decided,
    hint="Write your name into the panel, then press one of its two buttons.",
    solution="Who, when and why are in the table, in the run's result and in its history.",
)
