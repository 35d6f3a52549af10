"""Errors of a participant's code in one sentence, with the line that raised them.

A worker process uses this too, so it imports nothing else of the lab.
"""

import re
import traceback
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowExecutionDescription, WorkflowHistory

from labkit.bench.ledger import Ledger


class Off(Exception):
    """Not yet right: what was expected, and what came instead."""


def is_participants(file: str) -> bool:
    """Whether a file is one that a ``%%mine`` cell wrote, or a cell."""
    name = Path(file).as_posix()
    return "/notebooks/mine/" in name or "/ipykernel_" in name or name.startswith("<ipython-input")


def quoted(err: BaseException) -> str:
    """The innermost error and the participant's line that raised it."""
    while isinstance(cause := _cause(err), BaseException):
        err = cause
    named = getattr(err, "type", None)  # a TimeoutError's type is no name
    kind = named if named and isinstance(named, str) else type(err).__name__
    said = _plain(str(getattr(err, "message", None) or err))
    line = _own_frame(err) or own_line(getattr(getattr(err, "failure", None), "stack_trace", ""))
    return ": ".join(filter(None, [kind, said])) + (f" ({line})" if line else "")


def _plain(message: str) -> str:
    """What the SDK's core wraps into its own notation, such as a nondeterminism error."""
    found = re.search(r'message: "(\[TMPRL\d+\] .+?)", source', message)
    return found[1] if found else message


def _cause(err: BaseException) -> BaseException | None:
    """What an error of the SDK wraps: an ActivityError has an ApplicationError for a cause."""
    refused = isinstance(err, RuntimeError) and str(err).startswith("Failed validating workflow")
    return err.__cause__ if refused else getattr(err, "cause", None)


def _own_frame(err: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(err.__traceback__) if is_participants(f.filename)]
    if not frames:
        return ""
    return f"line {frames[-1].lineno} of {Path(frames[-1].filename).name}: {frames[-1].line}"


def own_line(stack: str) -> str:
    """The participant's last line in a stack trace that Temporal sends as text."""
    frames = re.findall(r'File "(.+?)", line (\d+), in .+\n +(.+)', stack)
    for file, number, line in reversed(frames):
        if is_participants(file):
            return f"line {number} of {Path(file).name}: {line.strip()}"
    return ""


def unfinished(
    run: WorkflowExecutionDescription, history: WorkflowHistory, ledger: Ledger, was_killed: bool
) -> str:
    """Why a run has not ended, with the line that failed last.

    Args:
        was_killed: a worker was killed, which lets workflow tasks time out as well.
    """
    for waiting in run.raw_description.pending_activities:
        return _of_activity(waiting, ledger)
    for event in reversed(history.events):
        if event.HasField("workflow_task_failed_event_attributes"):
            error = event.workflow_task_failed_event_attributes.failure
            return f"the workflow's own code fails again and again with {_of_failure(error)}"
        if event.HasField("workflow_task_timed_out_event_attributes") and not was_killed:
            return "the workflow's own code does not return, and does not await either"
    return "the run waits, and for no activity"


def _of_activity(waiting: Any, ledger: Ledger) -> str:
    """The ledger knows of a failure a moment before the server does."""
    name, error = waiting.activity_type.name, waiting.last_failure
    failures = ledger.failures(name)
    if not failures and not error.message:
        return f"{name} is in attempt {waiting.attempt}, and has not returned"
    times = max(waiting.attempt - 1, len(failures))
    last = failures[-1] if failures else _of_failure(error)
    return f"{name} has failed {'once' if times == 1 else f'{times} times, last'} with {last}"


def _of_failure(error: Any) -> str:
    """A failure as the server keeps it."""
    while error.HasField("cause"):
        error = error.cause
    line = own_line(error.stack_trace)
    said = filter(None, [error.application_failure_info.type, error.message])
    return ": ".join(said) + (f" ({line})" if line else "")
