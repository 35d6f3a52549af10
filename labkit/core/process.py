"""Processes that outlive the one that started them: told apart, started, found and ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from labkit.core.paths import LabError

# What asks a command to end. The end of a terminal window is SIGHUP, which Windows has not.
STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def on_stop(do: Callable[[], object]) -> None:
    """At the first signal that asks this process to stop: say so, and do something.

    Later ones must not disturb the clean-up. Under ``nohup`` the end of the terminal is ignored,
    and stays so.
    """

    def stop(*_: object) -> None:
        for name in STOP_SIGNALS:
            signal.signal(name, lambda *_: None)
        with suppress(OSError):
            os.write(2, b"stopping\n")  # print may be just what the signal has interrupted
        do()

    for name in STOP_SIGNALS:
        if name == signal.SIGINT or signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, stop)


@dataclass
class Process:
    """A process that can be told from a later one with the same pid."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        try:
            return cls(pid, _created(psutil.Process(pid)))
        except psutil.NoSuchProcess:
            return None

    @classmethod
    def current(cls) -> "Process":
        return cls(os.getpid(), _created(psutil.Process()))

    def alive(self) -> bool:
        """True while it runs; a zombie, which only waits to be reaped, does not.

        A process whose first thread has ended looks like a zombie, and still has its ports.
        """
        try:
            process = psutil.Process(self.pid)
            same = abs(_created(process) - self.created) < 2
            runs = process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
            return same and runs
        except (psutil.NoSuchProcess, ValueError, OverflowError):  # or a pid that can be none
            return False

    def end(self, seconds: float = 10, hard: bool = False) -> None:
        """Ask it to stop, and kill it when it has not after so many seconds.

        Args:
            seconds: how long it may take.
            hard: do not ask: SIGKILL.

        Raises:
            LabError: it is another user's.
        """
        for ask in ("kill",) if hard else ("terminate", "kill"):
            if not self.alive():
                return
            try:
                getattr(psutil.Process(self.pid), ask)()
            except psutil.NoSuchProcess:
                return
            except psutil.AccessDenied:
                raise LabError(
                    f"Process {self.pid} belongs to another user. Mend: sudo kill {self.pid}"
                ) from None
            until(lambda: not self.alive(), seconds, every=0.01)
            with suppress(psutil.Error):
                psutil.Process(self.pid).wait(0)  # reaps it, where it is a child of ours

    def listens(self, *ports: int) -> bool:
        """True when it, or a process that it started, listens on all these ports."""
        listening: set[int] = set()
        with suppress(psutil.Error):  # the system tells nothing of what is dying
            process = psutil.Process(self.pid)
            for member in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    sockets = member.net_connections("tcp")
                    listening |= {s.laddr.port for s in sockets if s.status == "LISTEN"}
        return listening.issuperset(ports)


def _created(process: psutil.Process) -> float:
    """When it started, in seconds, on a clock that nobody sets.

    On Linux that is since the system started: psutil adds the time of day of that start, which
    changes whenever the clock is set (a laptop or a virtual machine wakes up).
    """
    since = psutil.boot_time() if sys.platform == "linux" else 0.0
    return process.create_time() - since


def until(ready: Callable[[], object], seconds: float, every: float = 0.02) -> bool:
    """Wait until something holds, at most so long.

    Args:
        ready: asked again and again; once more when the time is up.
        seconds: the limit.
        every: seconds between two looks.

    Returns:
        Whether it holds.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def environment_of_ours() -> dict[str, str]:
    """For a server of the lab's own: without what the shell says to clients of other servers.

    ``PGOPTIONS`` or ``TEMPORAL_ENV`` would keep it from starting. Temporal needs ``USER`` and
    ``HOME``, which a container's user may lack.
    """
    theirs = ("PG", "TEMPORAL_")
    kept = {name: it for name, it in os.environ.items() if it and not name.startswith(theirs)}
    return {"USER": "lab", "HOME": os.sep} | kept


def spawn(
    arguments: list[str],
    log: Path,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    **environment: str,
) -> Process:
    """Start a process that the kernel's interrupt button cannot reach.

    Args:
        arguments: the program and what it is told.
        log: takes its output. Others cannot read it, nor any file that the process makes.
        env: its environment, when it is not this process's.
        cwd: its working directory, when it is not this process's.
        environment: variables to add.
    """
    detached: dict[str, Any] = {"start_new_session": True, "umask": 0o077}
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    with open_private(log, os.O_TRUNC) as output:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=(os.environ if env is None else env) | environment,
            **detached,
        )
    process = Process.of(child.pid)
    assert process, "a child stays, at least as a zombie, until it is reaped"
    return process


def open_private(path: Path, flags: int) -> BinaryIO:
    """Open a file to write, which nobody else may read when it is new: ``flags`` say where."""
    return os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | flags | getattr(os, "O_BINARY", 0), 0o600),
        "wb",
        buffering=0,
    )


def find_orphans(*markers: str) -> list[Process]:
    """Processes with all these arguments: ours, though no file may record them."""
    return find_processes(lambda process: set(markers) <= set(process.cmdline()))


def find_processes(matches: Callable[[psutil.Process], bool]) -> list[Process]:
    """The processes that match, without those that vanish or are nobody's business.

    Not with ``psutil.process_iter``, whose objects all threads share.
    """
    found = []
    for pid in psutil.pids():
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if matches(process):
                found.append(Process(pid, _created(process)))
    return found
