"""The predictions of notebook 01. Each is compared with an event history."""

from typing import Any

from labkit.ask.history import activities
from labkit.bench import Prediction


def completed_when_it_asks(run: Any) -> tuple[int, str]:
    names = [each.activity_id for each in activities(run.history()) if each.outcome == "completed"]
    before = names.index("record_approval") if "record_approval" in names else len(names)
    return before, f"{', '.join(names[:before])}."


def last_activity(run: Any) -> tuple[str, str]:
    last = activities(run.history())[-1].activity_id
    return last, f"{run.status().failure_reason}."


completed = Prediction(
    "How many activities will have completed when the workflow asks for approval?",
    completed_when_it_asks,
)
last = Prediction("Which activity of bad.csv will be the last one?", last_activity)
