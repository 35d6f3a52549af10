"""Exercises of notebook 05."""

from labkit.exercises.core import Question

READABLE = {"workflow id", "activity types", "search attributes", "retry policies"}
HIDDEN = {"training input", "failure message", "approver's name"}


def _readable(answer: set[str]) -> None:
    assert isinstance(answer, set | list | tuple), "give a set of texts, such as {'workflow id'}."
    words = {str(word).strip().lower() for word in answer}
    unknown = words - READABLE - HIDDEN
    assert not unknown, f"these are not in the question: {', '.join(sorted(unknown))}."
    wrong = words & HIDDEN
    assert not wrong, f"this is a payload, or was made one: {', '.join(sorted(wrong))}."
    assert words == READABLE, f"{len(READABLE - words)} more of them can be read by anybody."


q1 = Question(
    _readable,
    hint="What does the server need in order to do its own work, without ever running your code?",
    solution="The server routes, retries and lists by these four, so it must read them.",
)


def _old_runs(answer: str) -> None:
    assert isinstance(answer, str), "the answer is a text: 'old', 'new', 'both' or 'neither'."
    word = answer.strip().strip("'\"").lower()
    assert word in ("old", "new", "both", "neither"), "it is 'old', 'new', 'both' or 'neither'."
    assert word == "both", "rotation puts a key first. Does it take one away?"


q2 = Question(
    _old_runs,
    hint="The first key encrypts. Which keys decrypt?",
    solution="Both: the new key wrote nothing of the old run, but the old key is still there.",
)
