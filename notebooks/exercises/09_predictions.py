"""What notebook 09 asks before it looks."""

from typing import Any

from temporalio.api.enums.v1 import PendingWorkflowTaskState

from labkit.ask.describe import describe
from labkit.bench import Prediction, with_client


def _state(run: Any) -> tuple[str, str]:
    seen = with_client(lambda client: describe(client, run.id)).raw_description
    name = PendingWorkflowTaskState.Name(seen.pending_workflow_task.state)
    return (
        name.rpartition("_")[2].lower(),
        "the worker's polls go on in another thread, so the task was taken. Only the answer waits.",
    )


def _tidied(runs: Any) -> tuple[str, str]:
    ended = {run.id.rpartition("-")[2]: "tidy_up" in _activities(run) for run in runs}
    (word,) = [name for name, tidied in ended.items() if tidied]
    return word, "a request reaches the workflow's code. The other end is the server's alone."


def _activities(run: Any) -> str:
    return run.history().to_json()


state = Prediction(
    'Is the workflow task of the healthy run "scheduled" or "started" meanwhile?', _state
)
tidied = Prediction('Which of the two tidies up, "cancel" or "terminate"?', _tidied)
