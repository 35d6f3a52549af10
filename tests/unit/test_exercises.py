"""Each check on an untouched, a wrong and a right answer."""

import pkgutil
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from labkit import exercises
from labkit.exercises.core import Question
from labkit.pipeline.messages import Decision, Status


def run_with(*rows: tuple[str, str], **changes: Any) -> Any:
    """A run whose status and rows of approvals are as given: what the checks ask for."""
    return SimpleNamespace(
        status=lambda: Status("id", "data/raw/good.csv", **changes),
        decisions=lambda: [{"outcome": outcome, "decided_by": by} for outcome, by in rows],
    )


WAITING = run_with(awaiting_approval=True)
APPROVED = run_with(decision=Decision(True, "you"))
NO_REASON = run_with(decision=Decision(False, "you"))
NEVER_ASKED = run_with()
REJECTED = run_with(decision=Decision(False, "you", "old data"))

READABLE = {"workflow id", "activity types", "search attributes", "retry policies"}

RETRIED = {"connection refused", "too many connections", "server starting up"}

# For each question: untouched, wrong and right answers.
CASES = {
    "start_here.q1": ([None], ["workflow", "the Temporal server", 7], ["worker", " The Worker "]),
    "start_here.q2": ([None], [3, 0, "one"], [1]),
    "happy_path.q1": ([None], [4, 6, 1, "five"], [5]),
    "happy_path.q2": ([None, WAITING], [APPROVED, NO_REASON, NEVER_ASKED], [REJECTED]),
    "failure_injection.q1": ([None], [2, 4, "three"], [3]),
    "failure_injection.q2": ([None], [160, 80, "120"], [120, 120.0]),
    "postgres_outage.q1": ([None], [64, 128, 32, "60"], [60, 60.0]),
    "postgres_outage.q2": ([None], [0, 2, "one"], [1]),
    "auth_failure.q1": (
        [None],
        ["connection refused", {"connection refused"}, {"wrong password"}, RETRIED | {"rain"}],
        [RETRIED, {word.upper() for word in RETRIED}],
    ),
    "encryption.q1": (
        [None],
        ["workflow id", {"workflow id"}, {"training input"}, {"weather"}, READABLE | {"nothing"}],
        [READABLE, {word.upper() for word in READABLE}],
    ),
    "encryption.q2": ([None], ["old", "new", "neither", "all", 2], ["both", " 'Both' "]),
    "approval.q1": ([None], ["signal", "A query", "timer", 3], ["update", " An Update "]),
    "approval.q2": (
        [None, WAITING],
        [APPROVED, run_with(("expired", "")), run_with(("approved", ""))],
        [run_with(("approved", "you")), run_with(("rejected", "you"))],
    ),
    "crash_recovery.q1": ([None], [1, 30, 35, 41, 100, "31"], [31]),
    "crash_recovery.q2": ([None], [0, 1, 25, 3, "30"], [30, 30.0]),
}
QUESTIONS = {
    f"{module.name}.{name}": value
    for module in pkgutil.iter_modules(exercises.__path__)
    for name, value in vars(import_module(f"labkit.exercises.{module.name}")).items()
    if isinstance(value, Question)
}


@pytest.mark.parametrize("name", CASES)
def test_three_outcomes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    question, outcomes = QUESTIONS[name], ("Not attempted", "Not yet", "Right.")
    for answers, outcome in zip(CASES[name], outcomes, strict=True):
        for answer in answers:
            question.check(answer)
            assert capsys.readouterr().out.startswith(outcome), answer
    question.hint()
    question.solution()
    assert capsys.readouterr().out.startswith("Hint: ")


def test_every_question_is_tested() -> None:
    assert set(QUESTIONS) == set(CASES)
