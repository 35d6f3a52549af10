"""Failures on purpose, and how everything is put back.

``config/failure_simulation.json`` makes an activity fail. It is read at each attempt, and
deleting it clears the fault. The pipeline knows nothing of it: an interceptor of the worker
stands before each activity.
"""

import json
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from labkit.core import attempts
from labkit.core.envfile import env_lines, put_env_lines, write_env
from labkit.core.files import write_atomically
from labkit.core.process import Process
from labkit.core.settings import LabError, paths

log = logging.getLogger("labkit.faults")

FAULTS = {
    "data_processing": "preprocess_data",
    "training": "train_model",
    "quality_gate": "assess_model_quality",
    "deployment": "deploy_to_environment",
}
EXAMPLE = '{"simulate_failure": true, "activity": "training", "times": 2}'


@dataclass(frozen=True)
class Fault:
    """The first ``times`` attempts of an activity fail; all of them when it is None."""

    activity: str
    times: int | None = None

    def __post_init__(self) -> None:
        if self.activity not in FAULTS:
            raise LabError(f"{self.activity!r} cannot fail. Name one of {', '.join(FAULTS)}.")
        if self.times is not None and (type(self.times) is not int or self.times < 1):
            raise LabError(f"times is {self.times!r}. Give a whole number from 1, or leave it out.")

    def hits(self, activity_type: str, attempt: int) -> bool:
        wanted = FAULTS[self.activity] == activity_type
        return wanted and (self.times is None or attempt <= self.times)


def fault_file() -> Path:
    return paths().config / "failure_simulation.json"


def read_fault() -> Fault | None:
    """The fault that the file asks for at this moment. A broken file is a line in the log."""
    try:
        # Windows editors put a mark before UTF-8, which this encoding leaves out.
        content = json.loads(fault_file().read_text(encoding="utf-8-sig"))
        if content["simulate_failure"] is False:
            return None
        if content["simulate_failure"] is not True:
            raise LabError("simulate_failure is neither true nor false.")
        return Fault(content["activity"], content.get("times"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError, LabError) as err:
        log.warning("%s is ignored: %r. It should look like %s", fault_file(), err, EXAMPLE)
        return None


@contextmanager
def fault(activity: str, times: int | None = None) -> Iterator[None]:
    """Make an activity fail while the block lasts; afterwards all is as before.

    Args:
        activity: ``data_processing``, ``training``, ``quality_gate`` or ``deployment``.
        times: how many attempts of each run fail; all of them when it is left out.

    Raises:
        LabError: there is no such activity, or ``times`` is not a positive whole number.
    """
    Fault(activity, times)
    content: dict[str, Any] = {"simulate_failure": True, "activity": activity, "times": times}
    with put_back(fault_file()):
        write_atomically(fault_file(), json.dumps(content).encode())
        yield


@contextmanager
def changed_env(**values: str) -> Iterator[None]:
    """Edit ``.env`` as a participant would by hand; after the block these names are as they were.

    What else was written there meanwhile stays.

    Args:
        values: names and values, such as ``POSTGRES_PASSWORD="wrong"``.

    Raises:
        LabError: the environment sets one of the names, and so beats ``.env``.
    """
    if beaten := [name for name in sorted(values) if os.environ.get(name)]:
        raise LabError(f"The environment sets {', '.join(beaten)}, which beats .env. Unset it.")
    with _undone({"path": str(paths().env), "lines": env_lines(values)}):
        write_env(**values)
        yield


@contextmanager
def put_back(path: Path) -> Iterator[None]:
    """Let the block change a small text file, and put it back afterwards, whatever happens."""
    # Latin-1 turns any bytes into text for the note and back: the file may be broken.
    before = path.read_bytes().decode("latin-1") if path.exists() else None
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0
    with _undone({"path": str(path), "before": before, "mode": mode}):
        yield


@contextmanager
def _undone(change: dict[str, Any]) -> Iterator[None]:
    """Undo a change after the block.

    Meanwhile a note in ``.lab/undo`` says what to put back: if this process is killed, the next
    start of the lab does it (:func:`put_back_after_crash`).
    """
    note = paths().lab / "undo" / f"{time.time_ns()}-{Path(change['path']).name}.json"
    try:
        write_atomically(note, json.dumps(change | asdict(Process.current())).encode(), mode=0o600)
        yield
    finally:
        _undo(change)
        note.unlink(missing_ok=True)


def put_back_after_crash() -> list[str]:
    """Put back what killed processes had changed for a lesson, the latest change first.

    Returns:
        A line for each file.
    """
    lines = []
    for note, content in left_by_crash():
        with suppress(FileNotFoundError):  # another lab, which starts just now, was faster
            if content is None:
                lines.append(f"{paths().name(note)} could not be read. Look at .env and config/.")
            else:
                _undo(content)
                lines.append(f"Put {paths().name(Path(content['path']))} back, which a crash left.")
            note.unlink()
    return lines


def left_by_crash() -> list[tuple[Path, dict[str, Any] | None]]:
    """The notes of killed processes, the latest first; None stands for one that is broken."""
    found: list[tuple[Path, dict[str, Any] | None]] = []
    for note in sorted((paths().lab / "undo").glob("*.json"), reverse=True):
        try:
            content = json.loads(note.read_text(encoding="utf-8"))
            if not Process(content["pid"], content["created"]).alive():
                if "lines" not in content:
                    content = {name: content[name] for name in ("path", "before", "mode")}
                found.append((note, content))
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError):
            found.append((note, None))
    return found


def _undo(change: dict[str, Any]) -> None:
    path = Path(change["path"])
    if "lines" in change:
        put_env_lines(change["lines"])
    elif change["before"] is None:
        path.unlink(missing_ok=True)
    else:
        write_atomically(path, change["before"].encode("latin-1"), change["mode"])


def crash_point() -> str:
    """The activity (its id or its type) after whose work this process is to kill itself.

    ``LABKIT_CRASH_AT=log_experiment:answer`` in a worker's environment: the row is written, and
    the answer never leaves. A worker without it, which tries again, lives.

    Raises:
        LabError: the variable holds something else.
    """
    activity, _, place = (os.environ.get("LABKIT_CRASH_AT") or ":answer").partition(":")
    if place != "answer":
        raise LabError("LABKIT_CRASH_AT must be like log_experiment:answer. Mend or unset it.")
    return activity


class LabInterceptor(Interceptor):
    """Stands before each activity of the lab's workers: the ledger, the fault, the crash.

    Raises:
        LabError: ``LABKIT_CRASH_AT`` cannot be used.
    """

    def __init__(self) -> None:
        self._crash_point = crash_point()

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _BeforeActivity(next, self._crash_point)


class _BeforeActivity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, crash_point: str) -> None:
        super().__init__(next)
        self._crash_point = crash_point

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info, found, begun = activity.info(), read_fault(), time.monotonic()
        attempts.write("started")
        try:
            if found and found.hits(info.activity_type, info.attempt):
                raise ApplicationError(
                    f"{found.activity} fails on purpose: {fault_file().name} says so",
                    type="SimulatedFailure",
                )
            result = await super().execute_activity(input)
            if self._crash_point in (info.activity_id, info.activity_type):
                psutil.Process().kill()
        except BaseException as err:
            kind = getattr(err, "type", None) or type(err).__name__
            attempts.write("failed", time.monotonic() - begun, kind)
            raise
        attempts.write("completed", time.monotonic() - begun)
        return result
