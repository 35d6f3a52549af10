"""Ports for labs under test: ten for each home, which nothing else on this machine has.

Each test process holds a block of them as long as it lives, so that several processes, and several
runs, never meet. Homes that follow one another take the ranges of the block by turns, so that
nothing waits for the port of a server that has just ended.
"""

import itertools
import socket
from pathlib import Path

from labkit.core.ports import is_free

# Above the usual ports of the lab, below those that the system gives to clients.
FIRST, LAST = 10_000, 32_000
A_HOME = 10
A_PROCESS = 50 * A_HOME
# What the lab itself does not use of a home's ten.
JUPYTER, SPARE = 7, 8


class Block:
    """The ranges of this process. The first of their ports is listened on: it is the lock."""

    def __init__(self) -> None:
        self.guard, first = _hold_a_block()
        self.ranges = itertools.cycle(range(first + A_HOME, first + A_PROCESS, A_HOME))
        self.homes: dict[Path, int] = {}

    def next(self) -> int:
        """The first of ten ports that are free."""
        for first in itertools.islice(self.ranges, A_PROCESS // A_HOME):
            if all(map(is_free, range(first, first + A_HOME))):
                return first
        raise RuntimeError("No ten ports of this process are free: something has left servers.")

    def of(self, home: Path) -> int:
        """The first of the ports of a home, which stay the same."""
        if home not in self.homes:
            self.homes[home] = self.next()
        return self.homes[home]


def _hold_a_block() -> tuple[socket.socket, int]:
    for first in range(FIRST, LAST, A_PROCESS):
        guard = socket.socket()
        try:
            guard.bind(("127.0.0.1", first))
            guard.listen()
            return guard, first
        except OSError:
            guard.close()
    raise RuntimeError(f"All blocks of ports from {FIRST} to {LAST} are in use.")


BLOCK = Block()
