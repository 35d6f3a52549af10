"""What the outside world saw of a try: a line for each attempt, effect and failure.

The history says what the server knows. The ledger says what was done, also by an attempt that was
killed before it could answer.
"""

import asyncio
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from temporalio import activity

# Task queue of each open try -> its file. A try that is over takes no more notes.
BOOKS: dict[str, Path] = {}
# Task queue -> after how many effects its worker waits to be killed, and what ends that wait.
PAUSES: dict[str, int] = {}
STOPPING = threading.Event()
# By then the server has every heartbeat that was sent before the pause.
SETTLE_SECONDS = 0.3
LONGEST_PAUSE_SECONDS = 60


class Ledger(list[dict[str, Any]]):
    """The lines, oldest first."""

    def effects(self, name: str = "") -> list[Any]:
        """The values of all effects, or of those of one activity."""
        lines = [line for line in self if line["kind"] == "effect"]
        return [line["value"] for line in lines if name in ("", line["activity"])]

    def attempts(self, name: str) -> list[float]:
        """When each attempt of an activity began, in seconds after the first.

        It is the run's own clock, which ``skip=`` moves.
        """
        begun = [x["clock"] for x in self if (x["kind"], x["activity"]) == ("attempt", name)]
        return [round(moment - begun[0], 1) for moment in begun]

    def calls(self, name: str) -> list[str]:
        """The ids of an activity's calls, in the order in which they began."""
        return list(dict.fromkeys(line["id"] for line in self if line["activity"] == name))

    def failures(self, name: str = "") -> list[str]:
        """The errors that activities raised themselves; what a :class:`Fault` does is none."""
        lines = [line for line in self if line["kind"] == "failure"]
        return [line["value"] for line in lines if name in ("", line["activity"])]

    def pids(self) -> list[int]:
        """The processes that did something, in the order of their first line."""
        return list(dict.fromkeys(line["pid"] for line in self))


def effect(value: Any) -> None:
    """Note a side effect of the running activity: one line, written at once.

    Outside of a try nobody reads the ledger, so nothing is noted.

    Raises:
        RuntimeError: no activity is running here.
    """
    if not activity.in_activity():
        raise RuntimeError("effect() notes what an activity does, and no activity is running here")
    _pause()
    note("effect", value)


def work(seconds: float) -> None:
    """Stands for work that takes so long."""
    time.sleep(seconds)


def _pause() -> None:
    """Wait to be killed where that is due: between two effects, when nothing is half done."""
    queue = activity.info().task_queue
    if queue not in PAUSES or len(read(BOOKS[queue]).effects()) != PAUSES[queue]:
        return
    try:
        asyncio.get_running_loop()
        note("pause", 0)  # an async activity cannot wait here: its heartbeats would, too
    except RuntimeError:
        note("pause", SETTLE_SECONDS)
        STOPPING.wait(LONGEST_PAUSE_SECONDS)


def note(kind: str, value: Any = None) -> None:
    """Write a line about the running activity."""
    info = activity.info()
    if (path := BOOKS.get(info.task_queue)) is None:
        return
    line = {
        "kind": kind,
        "value": value,
        "activity": info.activity_type,
        "id": info.activity_id,
        "attempt": info.attempt,
        "pid": os.getpid(),
        "time": time.time(),
        "clock": info.started_time.timestamp(),
    }
    with path.open("ab", buffering=0) as file:  # several processes append whole lines
        file.write(json.dumps(line).encode() + b"\n")


def read(path: Path) -> Ledger:
    """The whole lines so far; one that is just being written comes next time."""
    if not path.exists():  # the try is over
        return Ledger()
    lines = path.read_bytes().splitlines(keepends=True)
    return Ledger(json.loads(line) for line in lines if line.endswith(b"\n"))


@contextmanager
def open_book(queue: str) -> Iterator[Path]:
    """A file for the notes of one try, removed afterwards."""
    handle, name = tempfile.mkstemp(prefix="labkit-try-", suffix=".jsonl")
    os.close(handle)
    BOOKS[queue] = Path(name)
    try:
        yield BOOKS[queue]
    finally:
        BOOKS.pop(queue).unlink(missing_ok=True)
