"""``.lab/state.json``: which servers run where, who uses them, and whose worker is on duty.

Every process is recorded with its pid and its creation time, so that a pid that the system
gave to another process meanwhile is never taken for ours.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from labkit.settings import LabError, not_mine, paths, write_atomically

LOCK_SECONDS = 90


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
        """True while it runs; a zombie, which only waits to be reaped, does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(_created(process) - self.created) < 2
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
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
            deadline = time.monotonic() + seconds
            while self.alive() and time.monotonic() < deadline:
                time.sleep(0.01)
            with suppress(psutil.Error):
                psutil.Process(self.pid).wait(0)  # reaps it, where it is a child of ours

    def listens(self, *ports: int) -> bool:
        """True when it, or a process that it started, listens on all these ports."""
        try:
            process = psutil.Process(self.pid)
            sockets = [
                socket
                for member in (process, *process.children(recursive=True))
                for socket in member.net_connections("tcp")
            ]
        except psutil.Error:  # it is dying: then the system tells even its owner nothing
            return False
        listening = {socket.laddr.port for socket in sockets if socket.status == "LISTEN"}
        return listening.issuperset(ports)


def _created(process: psutil.Process) -> float:
    """When it started, in seconds, on a clock that nobody sets.

    On Linux that is since the system started: psutil adds the time of day of that start, which
    changes whenever the clock is set (a laptop or a virtual machine wakes up).
    """
    since = psutil.boot_time() if sys.platform == "linux" else 0.0
    return process.create_time() - since


@dataclass
class Server:
    """A server as recorded: ``wanted_port`` is the one asked for before it turned out taken.

    An ``external`` one is not the lab's: it has no process on record, and may run all the same.
    """

    address: str
    process: Process | None = None
    wanted_port: int | None = None
    external: bool = False

    def running(self) -> bool:
        return self.process is not None and self.process.alive()


@dataclass
class User:
    """A process that uses the servers, or does the lab's work.

    ``what`` is lab (a notebook's kernel), jupyter, dashboard, up, worker, watch or codec-server.
    """

    process: Process
    what: str


@dataclass
class Owner:
    """The lab whose worker and watcher are on duty."""

    process: Process
    token: str
    encrypted: bool


@dataclass
class State:
    services: dict[str, Server] = field(default_factory=dict)
    users: list[User] = field(default_factory=list)
    owner: Owner | None = None

    @classmethod
    def read(cls) -> "State":
        """Read the file; one that is missing or cannot be read counts as empty."""
        return cls._parse() or cls()

    @classmethod
    def broken(cls) -> bool:
        """There is a file, and it cannot be read."""
        return paths().state.exists() and cls._parse() is None

    @classmethod
    def _parse(cls) -> "State | None":
        try:
            content = json.loads(paths().state.read_text(encoding="utf-8"))
            owner = content["owner"]
            return cls(
                services={name: _server(record) for name, record in content["services"].items()},
                users=[User(Process(**user.pop("process")), **user) for user in content["users"]],
                owner=owner and Owner(Process(**owner.pop("process")), **owner),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None
        except PermissionError:
            raise LabError(not_mine(paths().state)) from None

    def write(self) -> None:
        content = {
            "services": {
                name: {
                    "address": server.address,
                    "pid": server.process and server.process.pid,
                    "created": server.process and server.process.created,
                    "wanted_port": server.wanted_port,
                    "external": server.external,
                }
                for name, server in self.services.items()
            },
            "users": [asdict(user) for user in self.users],
            "owner": self.owner and asdict(self.owner),
        }
        write_atomically(paths().state, json.dumps(content, indent=2).encode(), mode=0o600)


def _server(record: dict[str, Any]) -> Server:
    process = Process(record["pid"], record["created"]) if record["pid"] else None
    external = record.get("external", False)  # a lab of an earlier version wrote none
    return Server(record["address"], process, record["wanted_port"], external)


@contextmanager
def changing() -> Iterator[State]:
    """Read the state, let the caller change it, and write it: one process at a time."""
    with _locked("state.lock"):
        state = State.read()
        yield state
        state.write()


@contextmanager
def exclusively() -> Iterator[None]:
    """Hold the lock under which servers are started and stopped."""
    with _locked("services.lock"):
        yield


@contextmanager
def _locked(name: str) -> Iterator[None]:
    path = paths().lab / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise LabError(
            f"Another process has held {path} for {LOCK_SECONDS} s. "
            f"See what runs with: python -m labkit doctor"
        ) from None
    except PermissionError:
        raise LabError(not_mine(path)) from None
    try:
        yield
    finally:
        lock.release()


def spawn(arguments: list[str], log: Path, **environment: str) -> Process:
    """Start a process that the kernel's interrupt button cannot reach, with its output in a log."""
    detached: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    with log.open("wb") as output:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
            **detached,
        )
    process = Process.of(child.pid)
    assert process, "a child stays, at least as a zombie, until it is reaped"
    return process


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
