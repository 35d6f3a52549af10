"""A worker or a watcher in a process of its own, for lessons that kill it."""

import os
import sys
import time
from typing import Literal

import psutil

from labkit.core.process import spawn, until
from labkit.core.settings import LabError
from labkit.services.base import fresh_log, log_tail, logs, wait_ready

STOP_SECONDS = 20


class LabProcess:
    """``python -m labkit worker`` or ``watch``, started by this process and ended with it.

    Args:
        what: worker or watch.
        encrypted: write only ciphertext.
        crash_at: where it kills itself, such as ``log_experiment:answer``; nowhere when empty.

    Raises:
        LabError: it was not ready in time, or ended; with the end of its log.
    """

    def __init__(
        self, what: Literal["worker", "watch"], encrypted: bool = False, crash_at: str = ""
    ) -> None:
        self.what = what
        self._end = "running"
        name = f"{what}-process"
        log = fresh_log(name)
        arguments = [sys.executable, "-m", "labkit", what, "--parent", str(os.getpid())]
        self.process = spawn(
            [*arguments, *(["--encrypted"] if encrypted else [])], log, LABKIT_CRASH_AT=crash_at
        )
        try:
            wait_ready(name, lambda: "ready" in log_tail(logs(name)).splitlines(), self.process)
        except BaseException:
            self.process.end()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL: it ends at this instant, wherever it is, and tells nobody."""
        self.process.end(hard=True)
        self._end = "killed"
        print(self)

    def terminate(self, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM: it takes no new task, ends or hands back those that it has, and goes.

        A worker amid training hands the rest back at its next checkpoint: another worker makes the
        next attempt at once, and trains no tree twice.

        Raises:
            LabError: it has not ended within the limit.
        """
        if self.process.alive():
            psutil.Process(self.pid).terminate()
        if not until(lambda: not self.process.alive(), seconds):
            raise LabError(f"{self}; it has not ended {seconds:g} s after SIGTERM.")
        self._end = "terminated"
        print(self)

    def stop(self) -> None:
        """Ask it to end what it does, and wait until it has ended. Harmless when it has."""
        if self.process.alive():
            self.process.end(STOP_SECONDS)
            self._end = "stopped"

    def wait(self, seconds: float = 60) -> None:
        """Wait until it has ended by itself.

        Raises:
            LabError: it has not within the limit.
        """
        deadline = time.monotonic() + seconds
        while self.process.alive():
            if time.monotonic() > deadline:
                raise LabError(f"{self} has not ended after {seconds:g} s.")
            time.sleep(0.02)
        print(self)

    def __enter__(self) -> "LabProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        dead = self._end == "running" and not self.process.alive()
        return f"{self.what}, process {self.pid}: {'dead' if dead else self._end}"
