"""The predictions of notebook 10. Each is compared with event histories."""

from collections.abc import Sequence

from temporalio.client import WorkflowHistory

from labkit.ask.deployments import builds
from labkit.bench import Prediction


def on_the_new_build(histories: Sequence[WorkflowHistory]) -> tuple[int, str]:
    number = sum(builds(history) == ["2.0"] for history in histories)
    return number, "the server decides by the workflow id, so a tenth is what to expect of many."


def where_it_ended(history: WorkflowHistory) -> tuple[str, str]:
    return builds(history)[-1], "a pinned run stays, until somebody moves it."


ramped = Prediction(
    "Of 40 new runs at a ramp of 10 %, how many will run on build 2.0?", on_the_new_build
)
sleeper = Prediction(
    "When build 2.0 is current, which build will go on with the run that sleeps? "
    'Type it in quotes, "1.0" or "2.0".',
    where_it_ended,
)
