"""What all servers of the lab have in common: a port, a process on record, a bounded wait."""

import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from labkit.core.ports import PortTaken, free_port, wanted_port
from labkit.core.process import Process, environment_of_ours, find_orphans, until
from labkit.core.record import Server, State, changing
from labkit.core.settings import LabError, paths

START_SECONDS = 60
# Set when a start is interrupted: whoever waits for a server stops waiting.
interrupted = threading.Event()
# What servers log of a taken port, here and on Windows: a stack trace may follow it.
PORT_TAKEN = ("address already in use", "10048")


class ServerEnded(LabError):
    """A server ended while somebody waited for it to be ready."""


class Service(ABC):
    """A server that can be started and stopped, by whichever process of the lab comes along."""

    name: str
    records: tuple[str, ...]

    def recorded_alive(self) -> bool:
        """True when each of its recorded processes runs."""
        services = State.read().services
        return all(name in services and services[name].running() for name in self.records)

    @abstractmethod
    def start(self) -> list[str]:
        """Start it unless it runs. Call under ``exclusively()``.

        Returns:
            What a participant should know about the start, a line each.
        """

    def stop(self, hard: bool = False) -> None:
        """Really stop it, and wait until it has. Call under ``exclusively()``.

        Args:
            hard: as a crash does, without a chance to write anything down.

        Raises:
            LabError: the settings name a server that is not the lab's.
        """
        self.end(hard)

    def end(self, hard: bool = False) -> None:
        """End what the lab started, whatever the settings say now; its address stays on record."""
        services = State.read().services
        for server in [services[name] for name in self.records if name in services]:
            if server.process:
                server.process.end(hard=hard)
        self.end_orphans()
        with changing() as state:
            for server in [state.services[name] for name in self.records if name in state.services]:
                server.process = None

    def markers(self) -> tuple[str, ...]:
        """Arguments by which its process is known, recorded or not; none when there are none."""
        return ()

    def end_orphans(self) -> list[str]:
        """End its processes that a crash left behind; a note for each."""
        found = find_orphans(*self.markers()) if self.markers() else []
        for orphan in found:
            orphan.end()
        return [f"Ended {self.name} (pid {o.pid}), which a crash had left running." for o in found]

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


def port_for(name: str, usual: int, other_than: int | None = None) -> int:
    """A free port for a server: the one where clients know it, else the wanted one, or the next.

    Raises:
        LabError: no port is free.
    """
    server = State.read().services.get(name)
    wanted = int(server.address.rsplit(":", 1)[1]) if server else wanted_port(name, usual)
    return free_port(wanted, other_than)


def wait_ready(
    name: str, ready: Callable[[], bool], process: Process | None, ports: Sequence[int] = ()
) -> None:
    """Poll until ready, and until the process has the ports: another lab may answer there.

    Raises:
        PortTaken: the process died because its port was taken.
        ServerEnded: it died for another reason.
        LabError: it was not ready in time, or the start was interrupted.
    """

    def dead() -> bool:
        return process is not None and not process.alive()

    def there() -> bool:
        return ready() and (process is None or process.listens(*ports))

    over = until(lambda: interrupted.is_set() or dead() or there(), START_SECONDS)
    if over and not interrupted.is_set() and not dead():
        return
    log = logs(name)
    if interrupted.is_set():
        raise LabError(f"{name} was to stop while it started.")
    if dead() and any(words in log_tail(log, 10_000).lower() for words in PORT_TAKEN):
        raise PortTaken(name)
    said = f"The end of {log}:\n{log_tail(log)}"
    if dead():
        raise ServerEnded(f"{name} ended while it started. {said}")
    raise LabError(f"{name} was not ready after {START_SECONDS} s. {said}")


def log_tail(log: Path, lines: int = 12) -> str:
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def run(
    arguments: list[str],
    what: str,
    log: Path | None = None,
    seconds: float = START_SECONDS,
    **options: Any,
) -> str:
    """Run a command to its end, with its output in ``log``, and returned when it has none.

    Raises:
        LabError: it failed or took too long, with the end of what it printed.
    """
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    options.setdefault("env", environment_of_ours())
    # A file, not a pipe: a server that the command leaves behind would hold a pipe open.
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        try:
            with (log or output).open("wb") as file:
                subprocess.run(
                    arguments, stdout=file, stderr=file, timeout=seconds, check=True, **options
                )
        except subprocess.TimeoutExpired:
            raise LabError(
                f"{what} took longer than {seconds} s:\n{log_tail(log or output)}"
            ) from None
        except subprocess.CalledProcessError:
            raise LabError(f"{what} failed:\n{log_tail(log or output)}") from None
        except OSError as err:
            raise LabError(f"{what} failed: {err}") from None
        return "" if log else output.read_text(encoding="utf-8", errors="replace")


def logs(name: str) -> Path:
    """The log of a server, in a folder that exists."""
    paths().logs.mkdir(parents=True, exist_ok=True)
    return paths().logs / f"{name}.log"


def fresh_log(name: str) -> Path:
    """Where a server's next log goes; the last one is kept beside it, as ``NAME.old.log``."""
    with suppress(OSError):
        logs(name).replace(logs(f"{name}.old"))
    return logs(name)
