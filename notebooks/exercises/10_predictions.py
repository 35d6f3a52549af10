"""The predictions of notebook 10. Each is compared with event histories."""

from collections.abc import Sequence

from lessons.deployments import builds
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

from labkit.bench import Prediction

ASKED = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED


def on_the_new_build(histories: Sequence[WorkflowHistory]) -> tuple[int, str]:
    number = sum(builds(history) == ["2.0"] for history in histories)
    return number, "the server decides by the workflow id, so a tenth is what to expect of many."


def where_it_ended(history: WorkflowHistory) -> tuple[str, str]:
    return builds(history)[-1], "a pinned run stays, until somebody moves it."


def until_the_report(history: WorkflowHistory) -> tuple[int, str]:
    """How many days after its start the last activity was asked for."""
    asked = [e for e in history.events if e.event_type == ASKED][-1].event_time.ToDatetime()
    days = (asked - history.events[0].event_time.ToDatetime()).days
    return days, "a replay has the clock of the run, not yours."


ramped = Prediction(
    "Of 40 new runs at a ramp of 10 %, how many will run on build 2.0?", on_the_new_build
)
days = Prediction(
    "By the workflow's own clock, how many days after the start is the second stop?",
    until_the_report,
)
sleeper = Prediction(
    "When build 2.0 is current, which build will go on with the run that sleeps? "
    'Type it in quotes, "1.0" or "2.0".',
    where_it_ended,
)
