"""What notebook 07 asks before it looks."""

from typing import Any

from labkit.ask.history import count_events
from labkit.bench import Prediction


def _who_can_say_no(run: Any) -> tuple[str, str]:
    """Of the run that got a decision, then a late one of each kind."""
    stored = count_events(run.history())
    kind = "update" if stored["WorkflowExecutionUpdateAccepted"] == 1 else "none of them"
    return kind, "of two updates one was stored; the late signal was stored too, and did nothing."


def _waits_on(run: Any) -> tuple[bool, str]:
    awaited = run.status().awaiting_approval
    return awaited, "the wait is in the server's database, and any worker can take it up."


late = Prediction('Which kind of message can say "too late"?', _who_can_say_no)
waits_on = Prediction("Will the run still wait for its decision?", _waits_on)
