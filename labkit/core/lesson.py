"""What a lesson changes on purpose. Each change bears its owner, and is void when that is dead.

So nothing has to be put back after a crash: a killed notebook changes nothing any more.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from labkit.core.files import write_atomically
from labkit.core.paths import LabError, not_mine, paths
from labkit.core.process import Process


@dataclass
class Change:
    """Other values than those of ``.env``, or a fault, while the owner lives."""

    owner: Process
    env: dict[str, str] | None = None
    fault: dict[str, Any] | None = None


@cache
def _format() -> TypeAdapter[Change]:
    return TypeAdapter(Change)


@contextmanager
def changed(
    env: dict[str, str] | None = None, fault: dict[str, Any] | None = None
) -> Iterator[None]:
    """Let a change hold for all processes of the lab, while the block lasts and this one lives."""
    # A clock that nobody sets, so that the latest change has the last name.
    file = _folder() / f"{time.monotonic_ns():020}-{os.getpid()}.json"
    try:
        content = _format().dump_json(Change(Process.current(), env, fault))
        write_atomically(file, content, mode=0o600)
        yield
    finally:
        file.unlink(missing_ok=True)


def changes() -> dict[Path, Change]:
    """The changes that hold now, by their files, the latest last. Void ones are deleted."""
    found = {}
    for file in sorted(_folder().glob("*.json")):
        try:
            change = _format().validate_json(file.read_bytes())
            void = not change.owner.alive()
        except FileNotFoundError:  # its block has just ended
            continue
        except PermissionError:
            raise LabError(not_mine(file)) from None
        except ValidationError:
            void = True
        if void:
            file.unlink(missing_ok=True)
        else:
            found[file] = change
    return found


def changed_env() -> dict[str, str]:
    """The names that such changes set, with the latest values."""
    return {name: it for change in changes().values() for name, it in (change.env or {}).items()}


def _folder() -> Path:
    return paths().lab / "changes"
