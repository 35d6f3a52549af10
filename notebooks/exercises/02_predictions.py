"""The predictions of notebook 02. Each is compared with an event history."""

from lessons.steps import ACTIVITY, steps
from temporalio.client import WorkflowHistory

from labkit.bench import Prediction


def times_boiled(history: WorkflowHistory) -> tuple[int, str]:
    boiled = [step for step in steps(history) if step.part == ACTIVITY and step.name == "boil"]
    return len(boiled), "its result is in the history, so nobody needs it to run again."


def times_from_the_top(history: WorkflowHistory) -> tuple[int, str]:
    replays = [step for step in steps(history) if step.replayed]
    return 1 + len(replays), "a worker that is new to a run begins at the first line."


boils = Prediction("How often will the kettle have boiled at the end?", times_boiled)
tops = Prediction(
    "How often will 'workflow: from the top' have been printed at the end?", times_from_the_top
)
