"""Questions with three outcomes: not attempted, not yet right, right."""

from collections.abc import Callable
from typing import Any


class NotAttempted(Exception):
    """The stub is as it was: that is not a wrong answer."""


class Question:
    """One exercise of a notebook: ``check``, ``hint`` and ``solution``.

    Args:
        check: called with what the participant passes to :meth:`check`. Returning means right;
            ``AssertionError`` means not yet right and says what is off; ``NotAttempted`` says
            what to do first. None as the answer is never an attempt.
        hint: a push in the right direction.
        solution: the answer, and why.
    """

    def __init__(self, check: Callable[[Any], None], hint: str, solution: str) -> None:
        self._check, self._hint, self._solution = check, hint, solution

    def check(self, answer: Any = None) -> None:
        """Print the outcome, in words."""
        try:
            if answer is None:
                raise NotAttempted("put your answer in place of None, and run the cell again.")
            self._check(answer)
        except NotAttempted as todo:
            print(f"Not attempted yet: {todo}")
        except AssertionError as off:
            print(f"Not yet right: {off}")
        else:
            print(f"Right. {self._solution}")

    def hint(self) -> None:
        print(f"Hint: {self._hint}")

    def solution(self) -> None:
        print(f"Solution: {self._solution}")
