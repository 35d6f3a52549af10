"""``.lab/state.json``: which servers run where, who uses them, and whose worker is on duty.

Every process is recorded with its pid and its creation time, so that a pid that the system
gave to another process meanwhile is never taken for ours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from filelock import FileLock, Timeout
from pydantic import ConfigDict, TypeAdapter, ValidationError

from labkit.core.files import write_atomically
from labkit.core.paths import LabError, not_mine, paths
from labkit.core.process import Process
from labkit.core.settings import Settings, config_file, has_port, model_server_port

LOCK_SECONDS = 90


class Whole:
    """What another version wrote is not half understood: then the record is broken."""

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass
class Server(Whole):
    """A server as recorded. ``wanted_port`` is what the settings said when it took another one.

    An ``external`` one is not the lab's: it has no process on record, and may run all the same.

    Raises:
        ValueError: the address has no host or no port, so that no later command could use it.
    """

    address: str
    process: Process | None = None
    wanted_port: int | None = None
    external: bool = False

    def __post_init__(self) -> None:
        if not has_port(self.address):
            raise ValueError(f"{self.address!r} has no host and port")

    def running(self) -> bool:
        return self.process is not None and self.process.alive()


@dataclass
class User(Whole):
    """A process that uses the servers, or does the lab's work.

    ``what`` is lab (a notebook's kernel), jupyter, dashboard, up, worker, watch or codec-server.
    """

    process: Process
    what: str


@dataclass
class Owner(Whole):
    """The lab whose worker and watcher are on duty."""

    process: Process
    token: str
    encrypted: bool


@dataclass
class State(Whole):
    services: dict[str, Server] = field(default_factory=dict)
    users: list[User] = field(default_factory=list)
    labs: list[Owner] = field(default_factory=list)

    @property
    def newest_lab(self) -> Owner | None:
        """The lab on duty: the newest that lives. When it ends, the one before it is the newest."""
        return next((lab for lab in reversed(self.labs) if lab.process.alive()), None)

    @classmethod
    def read(cls) -> "State":
        """Read the file; one that is missing or cannot be used counts as empty."""
        return cls._parse() or cls()

    @classmethod
    def broken(cls) -> bool:
        """There is a file, and it cannot be used: not JSON, or not what :meth:`write` writes."""
        return paths().state.exists() and cls._parse() is None

    @classmethod
    def _parse(cls) -> "State | None":
        try:
            return _format().validate_json(paths().state.read_bytes())
        except (FileNotFoundError, IsADirectoryError, ValidationError):
            return None
        except PermissionError:
            raise LabError(not_mine(paths().state)) from None

    def write(self) -> None:
        write_atomically(paths().state, _format().dump_json(self, indent=2), mode=0o600)


@cache
def _format() -> TypeAdapter[State]:
    return TypeAdapter(State)


def postgres_port(config: Settings) -> int:
    """Where PostgreSQL is to be asked: at the port of the settings.

    The lab's own server may have found it taken. Then the record knows where it went, until
    somebody sets another port.
    """
    server = State.read().services.get("postgres")
    moved = server and not server.external and server.wanted_port == config.postgres_port
    return int(server.address.rsplit(":", 1)[1]) if server and moved else config.postgres_port


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
    lock = FileLock(path, mode=0o600)
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


def recorded_address(service: str) -> str | None:
    """The address that ``.lab/state.json`` records for a server, or None."""
    server = State.read().services.get(service)
    return server.address if server else None


def model_server_url(environment: str) -> str:
    """Where the model server of ``dev`` or ``prod`` answers: as recorded, else as configured."""
    if address := recorded_address(environment):
        return address
    host = config_file(f"{environment}.yml").get("host", "127.0.0.1")
    return f"http://{host}:{model_server_port(environment)}"
