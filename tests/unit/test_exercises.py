"""Each check on an untouched, a wrong and a right answer."""

from types import SimpleNamespace
from typing import Any

import pytest

from labkit.exercises import approval, encryption, happy_path, start_here
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

CASES = [
    (start_here.q1, [None], ["workflow", "the Temporal server", 7], ["worker", " The Worker "]),
    (start_here.q2, [None], [3, 0, "one"], [1]),
    (happy_path.q1, [None], [4, 6, 1, "five"], [5]),
    (happy_path.q2, [None, WAITING], [APPROVED, NO_REASON, NEVER_ASKED], [REJECTED]),
    (
        encryption.q1,
        [None],
        ["workflow id", {"workflow id"}, {"training input"}, {"weather"}, READABLE | {"nothing"}],
        [READABLE, {word.upper() for word in READABLE}],
    ),
    (encryption.q2, [None], ["old", "new", "neither", "all", 2], ["both", " 'Both' "]),
    (approval.q1, [None], ["signal", "A query", "timer", 3], ["update", " An Update "]),
    (
        approval.q2,
        [None, WAITING],
        [APPROVED, run_with(("expired", "")), run_with(("approved", ""))],
        [run_with(("approved", "you")), run_with(("rejected", "you"))],
    ),
]
NAMES = ["start_here.q1", "start_here.q2", "happy_path.q1", "happy_path.q2"]
NAMES += ["encryption.q1", "encryption.q2", "approval.q1", "approval.q2"]


@pytest.mark.parametrize(("question", "untouched", "wrong", "right"), CASES, ids=NAMES)
def test_three_outcomes(
    question: Question,
    untouched: list[Any],
    wrong: list[Any],
    right: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for answers, outcome in ((untouched, "Not attempted"), (wrong, "Not yet"), (right, "Right.")):
        for answer in answers:
            question.check(answer)
            assert capsys.readouterr().out.startswith(outcome), answer
    question.hint()
    question.solution()
    assert capsys.readouterr().out.startswith("Hint: ")


def test_every_question_is_tested() -> None:
    questions = {
        f"{module.__name__.rsplit('.', 1)[1]}.{name}"
        for module in (start_here, happy_path, encryption, approval)
        for name, value in vars(module).items()
        if isinstance(value, Question)
    }
    assert questions == set(NAMES)
