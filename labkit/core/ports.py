"""Ports: the wanted one, or the next that is free, and none that another lab comes back to."""

import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from labkit.core.process import Process
from labkit.core.settings import LabError, paths

T = TypeVar("T")
PORTS_TRIED = 100
STARTS_TRIED = 10
CLAIMS = Path(tempfile.gettempdir()) / "labkit-ports"


class PortTaken(Exception):
    """Another process took the port between our look and our start."""


def with_free_ports(start: Callable[[], T]) -> T:
    """Call ``start``, which picks free ports, again when somebody else was faster."""
    for _ in range(STARTS_TRIED):
        try:
            return start()
        except PortTaken:
            continue
    raise LabError("Again and again, another process took the port first. Try once more.")


def free_port(wanted: int) -> int:
    """The wanted port on 127.0.0.1 when it is free, else the next one that is.

    Raises:
        LabError: none of the next hundred is free.
    """
    for port in range(wanted, min(wanted + PORTS_TRIED, 65536)):
        if is_free(port) and not claimed(port):
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
    host, _, port = address.rpartition("//")[2].rpartition(":")
    # A name that cannot be one is a ValueError: a part of it has more than 63 letters.
    with suppress(OSError, ValueError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def claim(address: str, users: list[Process]) -> None:
    """Keep other labs off the port of a server, also while it is stopped or killed for a lesson.

    Its pipelines go on knocking there: another lab's server would turn them away for good. The
    claim holds while one of the processes lives that use this lab.
    """
    note = {"root": str(paths().root), "users": [asdict(user) for user in users]}
    with suppress(OSError):
        CLAIMS.mkdir(exist_ok=True)
        CLAIMS.chmod(0o1777)
    with suppress(OSError):
        _claim_file(address).write_text(json.dumps(note), encoding="utf-8")


def release(address: str) -> None:
    """Leave the port to whoever wants it."""
    with suppress(OSError):
        _claim_file(address).unlink()


def _claim_file(address: str) -> Path:
    """One a lab and user, so that none is in another's way."""
    user = os.getuid() if sys.platform != "win32" else ""
    name = sha256(str(paths().root).encode()).hexdigest()[:12]
    return CLAIMS / f"{address.rsplit(':', 1)[1]}-{name}-{user}"


def claimed(port: int) -> bool:
    """Another lab that is in use has stopped its server on this port, and will want it back."""
    return any(map(_holds, CLAIMS.glob(f"{port}-*")))


def _holds(claim: Path) -> bool:
    """It is another lab's, and one of its users lives. One whose users are dead is deleted."""
    try:
        note = json.loads(claim.read_text(encoding="utf-8"))
        if note["root"] == str(paths().root):
            return False
        held = any(Process(**user).alive() for user in note["users"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not held:
        with suppress(OSError):
            claim.unlink()
    return held
