"""The ledger of attempts: what Temporal's event history leaves out.

The history holds the last attempt of each activity, and the number of those before it. The
worker writes the others down here, one JSON line when an attempt starts and one when it ends,
so that a lesson can show each of them, with the process that made it.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio import activity

from labkit.core.journal import append_line, read_lines
from labkit.core.settings import paths

log = logging.getLogger("labkit.core.attempts")


@dataclass
class Attempt:
    """One attempt. ``outcome`` is running, completed, failed, or lost (its process died)."""

    activity_id: str
    number: int
    pid: int
    started: datetime
    ended: datetime | None = None
    outcome: str = "running"
    failure: str = ""

    @property
    def seconds(self) -> float | None:
        return None if self.ended is None else (self.ended - self.started).total_seconds()


def write(event: str, seconds: float = 0.0, failure: str = "") -> None:
    """Note that the current attempt has started, completed or failed.

    The time is the one of the workflow's own clock, as in the event history.

    Args:
        event: ``started``, ``completed`` or ``failed``.
        seconds: how long after its start.
        failure: the kind of error.
    """
    info = activity.info()
    line = {
        "activity_id": info.activity_id,
        "number": info.attempt,
        "event": event,
        "failure": failure,
        "time": (info.started_time + timedelta(seconds=seconds)).isoformat(),
        "pid": os.getpid(),
    }
    path = _file(info.workflow_id or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        append_line(path, line)
    except OSError as err:  # a full disk must not fail the work that is noted here
        log.warning("The ledger of attempts misses a line: %s", err)


def read(workflow_id: str) -> list[Attempt]:
    """All attempts of a workflow's activities, in the order in which they started."""
    attempts: list[Attempt] = []
    for line in read_lines(_file(workflow_id)):
        if line["event"] == "started":
            attempts.append(_started(line, attempts))
        else:
            _end(line, attempts)
    return attempts


def _started(line: dict[str, Any], before: list[Attempt]) -> Attempt:
    """A new attempt of an activity: an earlier one that never ended was lost with its process."""
    for attempt in before:
        if attempt.activity_id == line["activity_id"] and attempt.outcome == "running":
            attempt.outcome = "lost"
    when = datetime.fromisoformat(line["time"])
    return Attempt(line["activity_id"], line["number"], line["pid"], when)


def _end(line: dict[str, Any], attempts: list[Attempt]) -> None:
    key = (line["activity_id"], line["number"], line["pid"])
    for attempt in reversed(attempts):
        if (attempt.activity_id, attempt.number, attempt.pid) == key and not attempt.ended:
            attempt.ended = datetime.fromisoformat(line["time"])
            attempt.outcome, attempt.failure = line["event"], line["failure"]
            return


def _file(workflow_id: str) -> Path:
    """Workflow ids hold anything; file names do not."""
    name = hashlib.sha256(workflow_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return paths().lab / "attempts" / f"{name}.jsonl"
