"""Exercises of notebook 04."""

from labkit.exercises.core import Question

RETRIED = {"connection refused", "too many connections", "server starting up"}
KNOWN = {*RETRIED, "wrong password", "wrong database", "missing table"}


def _retried(answer: set[str]) -> None:
    assert isinstance(answer, set | list | tuple), (
        "give a set of texts, such as {'wrong password'}."
    )
    words = {str(word).strip().lower() for word in answer}
    assert words <= KNOWN, f"these are not in the question: {', '.join(sorted(words - KNOWN))}."
    wrong = words - RETRIED
    assert not wrong, f"no retry mends this: {', '.join(sorted(wrong))}."
    assert words == RETRIED, f"{len(RETRIED - words)} more of them can mend themselves."


q1 = Question(
    _retried,
    hint="Ask of each: could it be gone in a minute, if nobody does anything?",
    solution="These three pass by themselves. The others wait for a human, so they fail at once.",
)
