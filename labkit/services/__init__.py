"""What must be running: the Temporal server, PostgreSQL, and two model servers.

Several processes share them. Whoever needs them joins; the last to leave stops them.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from labkit.services.base import Service
from labkit.services.models import Models
from labkit.services.ports import accepts
from labkit.services.postgres import Postgres
from labkit.services.state import Process, State, User, changing, exclusively
from labkit.services.temporal import Temporal
from labkit.settings import ensure_env, paths

postgres = Postgres()
# What keeps the servers running; a worker or a watcher alone does not.
KEEP_SERVERS = ("lab", "jupyter", "dashboard", "up")
STOP_SECONDS = 30
SERVICES: dict[str, Service] = {"temporal": Temporal(), "postgres": postgres, "models": Models()}


def prepare() -> None:
    """Make ``.env`` and the folders, for who needs them but no server."""
    with exclusively():
        _prepare()


def _prepare() -> None:
    paths().make()
    if ensure_env():
        postgres.accept_new_password()


@contextmanager
def starting(*names: str) -> Iterator[dict[str, "Future[list[str]]"]]:
    """Start servers side by side (all, when none is named), and wait for them at the end.

    Yields:
        A future a server, done when the server answers, with notes for the participant.

    Raises:
        LabError: one did not start; the others did.
    """
    with exclusively(), ThreadPoolExecutor(len(SERVICES)) as pool:
        _prepare()
        futures = {name: pool.submit(SERVICES[name].start) for name in names or SERVICES}
        yield futures
        for future in futures.values():
            future.result()


def start(*names: str) -> list[str]:
    """Start servers that do not run yet (all, when none is named), and wait until they answer.

    Returns:
        Notes for the participant: what was found and mended.

    Raises:
        LabError: a server did not start, with the end of its log.
    """
    with starting(*names) as futures:
        pass
    return [note for future in futures.values() for note in future.result()]


def stop(*names: str) -> None:
    """Really stop servers. Their addresses stay on record: a later start takes the same ones."""
    with exclusively():
        _side_by_side(SERVICES[name].stop for name in names)


def join(what: str = "lab") -> None:
    """Put this process on record. While a lab, jupyter, dashboard or up lives, the servers stay.

    Args:
        what: lab, jupyter, dashboard, up, worker, watch or codec-server.
    """
    with changing() as state:
        _forget_me_and_the_dead(state)
        state.users.append(User(Process.current(), what))


def leave() -> bool:
    """Take this process off the record.

    Returns:
        True when this process was the last that kept the servers, so that they were stopped.
    """
    with exclusively():
        with changing() as state:
            mine = _forget_me_and_the_dead(state)
            needed = any(user.what in KEEP_SERVERS for user in state.users)
        last = mine in KEEP_SERVERS and not needed
        if last:
            _down()
    return last


def end_commands() -> list[str]:
    """End the lab's commands in other terminals, except JupyterLab.

    Returns:
        A line for each one that was ended.
    """
    commands = [
        user
        for user in State.read().users
        if user.what in ("up", "dashboard", "worker", "watch", "codec-server")
        and user.process != Process.current()
    ]
    ended = [f"{c.what} (pid {c.process.pid})" for c in commands if c.process.alive()]
    for command in commands:
        command.process.end(STOP_SECONDS)
    return ended


def down() -> None:
    """Stop every server that this lab started, and forget where they were."""
    with exclusively():
        _down()


def status() -> dict[str, dict[str, Any]]:
    """Where each server is, its pid, and whether it runs: what ``status --json`` prints."""
    return {
        name: {
            "address": server.address,
            "pid": server.process.pid if server.process else None,
            "running": server.running() if server.process else accepts(server.address),
        }
        for name, server in State.read().services.items()
    }


def _side_by_side(calls: Iterable[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(SERVICES)) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()


def _down() -> None:
    _side_by_side(service.end for service in SERVICES.values())
    postgres.release_port()
    with changing() as state:
        state.services.clear()


def _forget_me_and_the_dead(state: State) -> str:
    """Drop this process and dead ones from the users; returns what this process was."""
    alive = [user for user in state.users if user.process.alive()]
    mine = next((user.what for user in alive if user.process.pid == os.getpid()), "")
    state.users = [user for user in alive if user.process.pid != os.getpid()]
    return mine
