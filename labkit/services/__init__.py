"""What must be running: the Temporal server, PostgreSQL, and two model servers.

Several processes share them. Whoever needs them joins; the last to leave stops them.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from labkit.core.envfile import ensure_env, lacking_secrets
from labkit.core.files import sweep
from labkit.core.ports import accepts
from labkit.core.process import Process
from labkit.core.record import State, User, changing, exclusively
from labkit.core.settings import paths
from labkit.services import base
from labkit.services.base import Service
from labkit.services.models import Models
from labkit.services.postgres import Postgres
from labkit.services.temporal import Temporal

postgres = Postgres()
# What keeps the servers running; a worker or a watcher alone does not.
KEEP_SERVERS = ("lab", "jupyter", "dashboard", "up")
STOP_SECONDS = 30
SERVICES: dict[str, Service] = {"temporal": Temporal(), "postgres": postgres, "models": Models()}


def prepare() -> list[str]:
    """Make ``.env`` and the folders, and clear what a crash has left of the lab's own files.

    Returns:
        Notes for the participant: what was found and mended.
    """
    with exclusively():
        return _prepare()


def _prepare() -> list[str]:
    paths().make()
    notes = sweep()
    if State.broken():
        with changing():  # writes a new one
            notes.append("The record of servers could not be read: the lab looks for them itself.")
    if paths().env.exists() and (lacking := lacking_secrets()):
        notes.append(f".env lacked {', '.join(lacking)}: each is new now.")
    if ensure_env():
        notes += postgres.restore_password()
    return notes


def start(*names: str) -> list[str]:
    """Start servers that do not run yet, side by side (all, when none is named).

    Returns when each of them answers.

    Returns:
        Notes for the participant: what was found and mended.

    Raises:
        LabError: a server did not start, with the end of its log; the others did.
    """
    with exclusively(), ThreadPoolExecutor(len(SERVICES)) as pool:
        notes = _prepare()
        base.interrupted.clear()
        futures = [pool.submit(SERVICES[name].start) for name in names or SERVICES]
        try:
            wait(futures)
        except BaseException:
            base.interrupted.set()
            raise
        return notes + [note for future in futures for note in future.result()]


def stop(*names: str, hard: bool = False) -> None:
    """Really stop servers. Their addresses stay on record: a later start takes the same ones.

    Args:
        names: temporal, postgres or models.
        hard: as a crash does: SIGKILL, or PostgreSQL's immediate mode.
    """
    with exclusively():
        _side_by_side(partial(SERVICES[name].stop, hard) for name in names)


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
    with changing() as state:
        mine = _forget_me_and_the_dead(state)
    if mine not in KEEP_SERVERS:
        return False  # without the lock: whoever starts servers may wait for this process to end
    with exclusively():
        last = not any(user.what in KEEP_SERVERS for user in State.read().users)
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
            "running": accepts(server.address) if server.external else server.running(),
        }
        for name, server in State.read().services.items()
    }


def _side_by_side(calls: Iterable[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(SERVICES)) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()


def _down() -> None:
    _side_by_side(service.end for service in SERVICES.values())
    with changing() as state:
        state.services.clear()


def _forget_me_and_the_dead(state: State) -> str:
    """Drop this process and dead ones from the users; returns what this process was."""
    alive = [user for user in state.users if user.process.alive()]
    mine = next((user.what for user in alive if user.process.pid == os.getpid()), "")
    state.users = [user for user in alive if user.process.pid != os.getpid()]
    return mine
