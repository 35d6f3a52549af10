"""The predictions of notebook 00."""

from typing import Any

from labkit.ask.history import activities
from labkit.bench import Prediction


def attempts_of_the_first(run: Any) -> tuple[int, str]:
    (record,) = activities(run.history())
    return record.attempts, "InsufficientData is not retryable: no retry makes a file longer."


attempts = Prediction(
    "How many times will Temporal try to preprocess a file of three rows?", attempts_of_the_first
)
