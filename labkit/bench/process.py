"""A worker process of a try, as the kernel sees it."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from labkit.core.settings import paths, read_env

END_SECONDS = 3


class WorkerFailed(Exception):
    """The worker process could not work, or ended by itself."""


class WorkerProcess:
    """Its prints wait in ``lines`` until the cell's own thread prints them.

    Attributes:
        ready: set once it polls, or has ended.
        failed: why it could not begin, in words.
        answer: what a replay said; None before.
    """

    def __init__(
        self, todo: dict[str, Any], lines: "queue.SimpleQueue[str]", hash_seed: int | None = None
    ) -> None:
        self.lines, self.ready = lines, threading.Event()
        self.failed, self.answer = "", None
        self.asked_to_end, self._silent = False, threading.Event()
        self.popen = subprocess.Popen(
            [sys.executable, "-u", "-m", "labkit.bench.tryworker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=_environment(hash_seed),
            start_new_session=True,  # the interrupt button signals the kernel's whole group
        )
        self._reader = threading.Thread(target=self._read, name="bench-lines", daemon=True)
        self._reader.start()
        assert self.popen.stdin
        with suppress(BrokenPipeError):
            self.popen.stdin.write(json.dumps(todo | {"path": sys.path}) + "\n")
            self.popen.stdin.flush()

    def _read(self) -> None:
        assert self.popen.stdout
        for line in self.popen.stdout:
            printed, mark, told = line.partition("\0")
            if printed:
                self.lines.put(printed)
            if mark:
                self._hear(*told.split(" ", 1))
        self._silent.set()
        self.ready.set()

    def _hear(self, word: str, said: str) -> None:
        if word == "failed":  # and it ends
            self.failed = json.loads(said)
            return
        if word == "replayed":
            self.answer = json.loads(said)
        self.ready.set()

    def check(self) -> None:
        """Complain when it has ended although nobody asked for it.

        Raises:
            WorkerFailed: with the reason.
        """
        if self.asked_to_end or not self._silent.is_set():
            return
        code = self.popen.wait(END_SECONDS)
        if self.failed:
            raise WorkerFailed(f"the worker process could not begin: {self.failed}")
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        raise WorkerFailed(f"the worker process ended by itself, with {how}")

    def signal(self, how: str) -> None:
        """Send SIGKILL, SIGTERM or SIGSTOP."""
        self.asked_to_end = True
        with suppress(ProcessLookupError):
            self.popen.send_signal(signal.Signals[how])

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.asked_to_end = True
        self.popen.kill()
        self.popen.wait(END_SECONDS)
        self._reader.join(END_SECONDS)
        for stream in (self.popen.stdin, self.popen.stdout):
            with suppress(OSError):
                assert stream
                stream.close()


def _environment(hash_seed: int | None) -> dict[str, str]:
    """As the kernel's, with the profile for Temporal that ``.env`` may hold."""
    known = {name: value for name, value in read_env().items() if name.startswith("TEMPORAL_")}
    ours = {
        "LABKIT_HOME": str(paths().root),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    seed = {} if hash_seed is None else {"PYTHONHASHSEED": str(hash_seed)}
    return known | dict(os.environ) | ours | seed
