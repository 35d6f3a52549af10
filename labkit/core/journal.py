"""Journals: files of JSON lines that several processes add to, of what really happened.

The event history holds the last attempt of each activity, and the number of those before it. The
worker writes the others down, a line when an attempt starts and one when it ends, so that a lesson
can show each of them, with the process that made it. The training writes down which trees it has
trained and saved: history knows which attempts there were, these lines know what they did.
"""

import hashlib
import json
import logging
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.core.paths import paths
from labkit.core.process import open_private

if TYPE_CHECKING:
    from temporalio.activity import Info

log = logging.getLogger("labkit.core.journal")
TREES, DROPPED = "trees.jsonl", "dropped.jsonl"


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


def note_attempt(info: "Info", event: str, seconds: float = 0.0, failure: str = "") -> None:
    """Note that an attempt has started, completed or failed.

    The time is the one of the workflow's own clock, as in the event history.

    Args:
        info: of the activity's attempt.
        event: ``started``, ``completed`` or ``failed``.
        seconds: how long after its start.
        failure: the kind of error.
    """
    line = {
        "activity_id": info.activity_id,
        "number": info.attempt,
        "event": event,
        "failure": failure,
        "time": (info.started_time + timedelta(seconds=seconds)).isoformat(),
        "pid": os.getpid(),
    }
    path = _attempts_file(info.workflow_id or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _append(path, line)
    except OSError as err:  # a full disk must not fail the work that is noted here
        log.warning("The journal of attempts misses a line: %s", err)


def attempts_of(workflow_id: str) -> list[Attempt]:
    """All attempts of a workflow's activities, in the order in which they started."""
    attempts: list[Attempt] = []
    for line in _lines(_attempts_file(workflow_id)):
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


def _attempts_file(workflow_id: str) -> Path:
    """Workflow ids hold anything; file names do not."""
    name = hashlib.sha256(workflow_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return paths().lab / "attempts" / f"{name}.jsonl"


@dataclass(frozen=True)
class Trees:
    """The trees ``first`` to ``last``, counted from 1, as process ``pid`` trained and saved them.

    A tree is noted twice only if it was trained again although it had been saved. What a process
    had not saved when it was killed, ten trees at most, is not noted.
    """

    first: int
    last: int
    pid: int

    def __str__(self) -> str:
        return f"trees {self.first:>2} to {self.last:>3}: process {self.pid}"


def note_trees(folder: Path, first: int, last: int) -> None:
    """Note that this process has trained these trees of the model in a folder.

    Raises:
        OSError: the disk does not take it.
    """
    _append(folder / TREES, asdict(Trees(first, last, os.getpid())))


def trees_of(folder: Path) -> list[Trees]:
    """All trees of a model, in the order in which they were trained."""
    found = []
    for line in _lines(folder / TREES):
        with suppress(TypeError):
            found.append(Trees(**line))
    return found


def note_dropped(workflow_id: str) -> None:
    """Note that ``lab.drop`` started this run: what a lesson starts, it may end."""
    try:
        _append(paths().lab / DROPPED, {"id": workflow_id})
    except OSError as err:
        log.warning("The journal of dropped files misses a line: %s", err)


def dropped() -> set[str]:
    """The ids of all runs that ``lab.drop`` started, in whatever process."""
    return {str(line.get("id")) for line in _lines(paths().lab / DROPPED)}


def _append(path: Path, content: dict[str, Any]) -> None:
    """One short write in append mode: the lines of several processes do not mix.

    The line break comes first, so that a line which a full disk cut short spoils no other.
    """
    with open_private(path, os.O_APPEND) as file:
        file.write(b"\n" + json.dumps(content).encode())


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal; an absent one has none."""
    lines = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError):
            lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict)]
