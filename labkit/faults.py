"""Failures on purpose.

``config/failure_simulation.json`` makes an activity fail. It is read at each attempt, and
deleting it clears the fault. A block in Python does the same without the file. The pipeline knows
nothing of either: an interceptor of the worker stands before each activity.
"""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from labkit.core import journal, lesson
from labkit.core.paths import LabError, paths

log = logging.getLogger("labkit.faults")

FAULTS = {
    "data_processing": "preprocess_data",
    "training": "train_model",
    "quality_gate": "assess_model_quality",
    "deployment": "deploy_to_environment",
}
WHEN = ("before", "after")
EXAMPLE = '{"simulate_failure": true, "activity": "training", "times": 2}'


@dataclass(frozen=True)
class Fault:
    """The first ``times`` attempts of an activity fail; all of them when it is None.

    They fail before its work, or ``after``: then all is done, and only the answer is lost.
    """

    activity: str
    times: int | None = None
    says: str = field(default="lab.fault", compare=False)
    when: str = "before"

    def __str__(self) -> str:
        after = " after its work" if self.when == "after" else ""
        return f"{self.activity} fails on purpose{after}: {self.says} says so"

    def __post_init__(self) -> None:
        if self.activity not in FAULTS:
            raise LabError(f"{self.activity!r} cannot fail. Name one of {', '.join(FAULTS)}.")
        if self.times is not None and (type(self.times) is not int or self.times < 1):
            raise LabError(f"times is {self.times!r}. Give a whole number from 1, or leave it out.")
        if self.when not in WHEN:
            raise LabError(f"when is {self.when!r}. It is 'before' or 'after' the activity's work.")

    def strike(self, when: str, activity_type: str, attempt: int) -> None:
        """Fail this attempt, if it is meant.

        Raises:
            ApplicationError: of the type ``SimulatedFailure``.
        """
        wanted = (FAULTS[self.activity], self.when) == (activity_type, when)
        if wanted and (self.times is None or attempt <= self.times):
            raise ApplicationError(str(self), type="SimulatedFailure")


def fault_file() -> Path:
    return paths().config / "failure_simulation.json"


def read_fault() -> Fault | None:
    """The fault that is asked for at this moment: by the latest block that lasts, or by the file.

    A broken file is a line in the log.
    """
    if held := [change.fault for change in lesson.changes().values() if change.fault]:
        return Fault(**held[-1])
    try:
        # Windows editors put a mark before UTF-8, which this encoding leaves out.
        content = json.loads(fault_file().read_text(encoding="utf-8-sig"))
        if content["simulate_failure"] is False:
            return None
        if content["simulate_failure"] is not True:
            raise LabError("simulate_failure is neither true nor false.")
        when = content.get("when", "before")
        return Fault(content["activity"], content.get("times"), fault_file().name, when)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError, LabError) as err:
        log.warning("%s is ignored: %r. It should look like %s", fault_file(), err, EXAMPLE)
        return None


def clear() -> None:
    """No activity fails any more: the file is deleted, and the blocks that last say nothing."""
    fault_file().unlink(missing_ok=True)
    for file, change in lesson.changes().items():
        if change.fault:
            file.unlink(missing_ok=True)


@contextmanager
def fault(activity: str, times: int | None = None, when: str = "before") -> Iterator[None]:
    """Make an activity fail while the block lasts and this process lives.

    Args:
        activity: ``data_processing``, ``training``, ``quality_gate`` or ``deployment``.
        times: how many attempts of each run fail; all of them when it is left out.
        when: ``before`` the activity's work, or ``after`` it and before its answer.

    Raises:
        LabError: there is no such activity, ``times`` is not a positive whole number, or ``when``
            is another word.
    """
    with lesson.changed(fault=asdict(Fault(activity, times, when=when))):
        yield


@contextmanager
def changed_env(**values: str) -> Iterator[None]:
    """Put values before those of ``.env`` while the block lasts and this process lives.

    They hold for all processes of the lab. The file is not touched.

    Args:
        values: names and values, such as ``POSTGRES_PASSWORD="wrong"``.

    Raises:
        LabError: the environment sets one of the names, and so beats the block.
    """
    if beaten := [name for name in sorted(values) if os.environ.get(name)]:
        raise LabError(f"The environment sets {', '.join(beaten)}, which beats .env. Unset it.")
    with lesson.changed(env=values):
        yield


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
    """Stands before each activity of the lab's workers: the journal, the fault, the crash.

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
        journal.note_attempt(info, "started")
        try:
            if found:
                found.strike("before", info.activity_type, info.attempt)
            result = await super().execute_activity(input)
            if found:
                found.strike("after", info.activity_type, info.attempt)
            if self._crash_point in (info.activity_id, info.activity_type):
                psutil.Process().kill()
        except BaseException as err:
            kind = getattr(err, "type", None) or type(err).__name__
            journal.note_attempt(info, "failed", time.monotonic() - begun, kind)
            raise
        journal.note_attempt(info, "completed", time.monotonic() - begun)
        return result
