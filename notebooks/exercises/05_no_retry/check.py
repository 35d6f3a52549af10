"""A RetryPolicy that tells errors apart by their names."""

from types import ModuleType

from exercise_shared.policies import try_policy

from labkit.bench import Exercise, Try, require

exercise = Exercise(
    task="Write a RetryPolicy: a ValueError gets one attempt, an OSError three.",
    hints=[
        "maximum_attempts is for all errors. A second field takes some of them out.",
        "non_retryable_error_types is a list of names: the server knows no Python classes.",
    ],
    right=(
        "The server compares names, so a subclass of ValueError is another error to it: a "
        "UnicodeError would be tried three times."
    ),
)


def require_attempts(mine: ModuleType, error: str, count: int) -> None:
    # One attempt too many is enough to know.
    tried: Try = try_policy(
        mine.policy, error, until=lambda ledger: len(ledger.attempts("always_fails")) > 3
    )
    came = len(tried.attempts("always_fails"))
    got = "a fourth" if came > 3 else came
    attempts = "1 attempt" if count == 1 else f"{count} attempts"
    require(came == count, f"expected {attempts}, got {got}")


@exercise.case("a ValueError: one attempt")
def value_error(mine: ModuleType) -> None:
    require_attempts(mine, "ValueError", 1)


@exercise.case("an OSError: three attempts")
def os_error(mine: ModuleType) -> None:
    require_attempts(mine, "OSError", 3)


@exercise.case("a ConnectionError, which is an OSError too: three attempts")
def connection_error(mine: ModuleType) -> None:
    require_attempts(mine, "ConnectionError", 3)
