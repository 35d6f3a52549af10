"""What notebook 04 asks before a run."""

from typing import Any

from labkit.ask.history import promised_gaps
from labkit.bench import Prediction

MANY = 100


def _by_hand(runs: Any) -> tuple[int, str]:
    stuck = [run for run in runs if run.status().current_step == "experiment_tracking"]
    return len(stuck), "each went on by itself, at its own next attempt."


def _longest_gap(run: Any) -> tuple[int, str]:
    longest = max(promised_gaps(run.history(), "log_experiment", MANY))
    return round(longest), "the policy's longest_interval, however long the outage was."


def _rows(run: Any) -> tuple[int, str]:
    return len(run.experiments()), "the second attempt found the row of the first."


by_hand = Prediction(
    "How many of the three pipelines will you have to start again by hand?", _by_hand
)
longest_gap = Prediction("How many seconds will the longest gap have?", _longest_gap)
rows = Prediction("How many rows will the run have in the end?", _rows)
