"""Ports: the wanted one, or the next that is free."""

import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from labkit.core.settings import LabError, settings

T = TypeVar("T")
PORTS_TRIED = 100
STARTS_TRIED = 10
# The order of the servers in the range of ports that LABKIT_PORTS begins.
RANGE = ("temporal", "ui", "postgres", "dev", "prod", "dashboard", "codec")


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


def wanted_port(name: str, usual: int) -> int:
    """The port that a server asks for: its usual one, or its place in the range of the settings.

    ``LABKIT_PORTS`` lets several labs share a machine: each has ten ports from there on.
    """
    first = settings().labkit_ports
    return usual if first is None else first + RANGE.index(name)


def free_port(wanted: int, other_than: int | None = None) -> int:
    """The wanted port on 127.0.0.1 when it is free, else the next one that is.

    Args:
        wanted: the first to try.
        other_than: one that is given away already, and not in use yet.

    Raises:
        LabError: none of the next hundred is free.
    """
    for port in range(wanted, min(wanted + PORTS_TRIED, 65536)):
        if port != other_than and is_free(port) and not held(port):
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


def hold(port: int) -> None:
    """Keep other labs off a port while its own server is stopped or killed for a lesson.

    The lab's worker goes on knocking there, and would do another lab's work. What is held is a
    name in the kernel (an abstract socket, which Linux has), not the port itself. It ends with
    this process.
    """
    if port not in _held:
        _held[port] = _name_of(port)


def let_go() -> None:
    """Leave all ports to whoever wants them."""
    for name in filter(None, _held.values()):
        name.close()
    _held.clear()


def held(port: int) -> bool:
    """The lab of another process lives, and wants this port back."""
    if port in _held or sys.platform != "linux":
        return False
    name = _name_of(port)
    if name:
        name.close()
    return name is None


_held: dict[int, socket.socket | None] = {}


def _name_of(port: int) -> socket.socket | None:
    """None when another process has it, or where there are no such names."""
    if sys.platform != "linux":
        return None
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0labkit-port-{port}")
    except OSError:
        name.close()
        return None
    return name
