"""What notebook 03 asks before a run."""

from typing import Any

import httpx

from labkit.ask.history import activities
from labkit.bench import Prediction
from labkit.core.record import model_server_url


def _attempts(run: Any) -> tuple[int, str]:
    found = [a.attempts for a in activities(run.history()) if a.activity_id == "preprocess_data"]
    return sum(found), "that is the limit in its policy, and the first attempt counts."


def _serving(run: Any) -> tuple[str, str]:
    answer = httpx.get(f"{model_server_url('prod')}/models", trust_env=False)
    if answer.json()["current"] == run.status().model_id:
        return "second", "nothing has put the first model back."
    return "first", "the compensation has put it back."


attempts = Prediction(
    "How many attempts will preprocess_data get before the workflow gives up?", _attempts
)
serving = Prediction('Which model will serve prod at the end, "first" or "second"?', _serving)
