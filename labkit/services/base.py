"""What all servers of the lab have in common: a port, a process on record, a bounded wait."""

import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from labkit.services.state import Process, Server, State, changing
from labkit.settings import LabError, paths

START_SECONDS = 60
PORTS_TRIED = 100


class PortTaken(Exception):
    """Another process took the port between our look and our start."""


class Service(ABC):
    """A server that can be started and stopped, by whichever process of the lab comes along."""

    name: str
    records: tuple[str, ...]

    def recorded_alive(self) -> bool:
        """True when each of its recorded processes runs."""
        services = State.read().services
        return all(name in services and services[name].running() for name in self.records)

    def ours(self) -> bool:
        """False when the settings name a server that the lab neither starts nor stops."""
        return True

    @abstractmethod
    def start(self) -> list[str]:
        """Start it unless it runs. Call under ``exclusively()``.

        Returns:
            What a participant should know about the start, a line each.
        """

    @abstractmethod
    def stop(self) -> None:
        """Really stop it, and wait until it has. Call under ``exclusively()``."""

    def address(self) -> str:
        """Where it answers, as recorded.

        Raises:
            LabError: it was never started.
        """
        try:
            return State.read().services[self.records[0]].address
        except KeyError:
            raise LabError(
                f"{self.name} was never started. Mend: python -m labkit start {self.name}"
            ) from None

    def record(self, **servers: Server) -> None:
        with changing() as state:
            state.services.update(servers)

    def end_recorded(self) -> None:
        """End the recorded processes, and keep their addresses on record."""
        with changing() as state:
            ended = [state.services[name] for name in self.records if name in state.services]
        for server in ended:
            if server.process:
                server.process.end()
        with changing() as state:
            for name in self.records:
                if name in state.services:
                    state.services[name].process = None


def recorded_port(name: str) -> int | None:
    """The port that a server has, or had before it was stopped: clients know it there."""
    server = State.read().services.get(name)
    return int(server.address.rsplit(":", 1)[1]) if server else None


def with_free_ports(start: Callable[[], None]) -> None:
    """Call ``start``, which picks free ports, again when somebody else was faster."""
    for _ in range(5):
        try:
            return start()
        except PortTaken:
            continue
    raise LabError("Five times in a row, another process took the port first. Try once more.")


def free_port(wanted: int) -> int:
    """The wanted port on 127.0.0.1 when it is free, else the next one that is.

    Raises:
        LabError: none of the next hundred is free.
    """
    for port in range(wanted, min(wanted + PORTS_TRIED, 65536)):
        if is_free(port):
            return port
    raise LabError(f"No port from {wanted} to {wanted + PORTS_TRIED - 1} is free on 127.0.0.1.")


def is_free(port: int) -> bool:
    """Nobody listens on the port, on this address or on all of them."""
    if accepts(f"127.0.0.1:{port}"):
        return False
    with socket.socket() as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts(address: str) -> bool:
    """Somebody accepts connections at ``host:port``, with or without ``http://`` before it."""
    host, port = address.rpartition("//")[2].rsplit(":", 1)
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def wait_ready(
    name: str, ready: Callable[[], bool], process: Process | None = None, log: Path | None = None
) -> None:
    """Poll until ready.

    Raises:
        PortTaken: the process died because its port was taken.
        LabError: it died for another reason, or was not ready in time; with the log's last lines.
    """
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        dead = process is not None and not process.alive()
        if not dead and time.monotonic() < deadline:
            time.sleep(0.02)
            continue
        tail = log_tail(log) if log else ""
        if dead and ("address already in use" in tail.lower() or "10048" in tail):
            raise PortTaken(name)
        what = "ended while it started" if dead else f"was not ready after {START_SECONDS} s"
        raise LabError(f"{name} {what}. The end of {log}:\n{tail}")


def log_tail(log: Path, lines: int = 12) -> str:
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def run(arguments: list[str], what: str, log: Path | None = None, **options: Any) -> None:
    """Run a command to its end, with its output in ``log`` or thrown away.

    Raises:
        LabError: it failed, with the end of what it printed.
    """
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    # A file, not a pipe: a server that the command leaves behind would hold a pipe open.
    with tempfile.TemporaryDirectory() as folder:
        log = log or Path(folder) / "output"
        with log.open("ab") as output:
            done = subprocess.run(
                arguments,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=START_SECONDS,
                check=False,
                **options,
            )
        if done.returncode:
            raise LabError(f"{what} failed:\n{log_tail(log)}")


def logs(name: str) -> Path:
    return paths().logs / f"{name}.log"
