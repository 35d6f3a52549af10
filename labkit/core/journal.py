"""Ledgers: files of JSON lines that several processes add to."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Add a line of JSON to a ledger that several processes write.

    One short write in append mode: their lines do not mix. The line break comes first, so that a
    line which a full disk cut short spoils no other.

    Raises:
        OSError: the disk does not take it.
    """
    with path.open("ab", buffering=0) as file:
        file.write(b"\n" + json.dumps(content).encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of such a ledger; an absent one has none."""
    lines = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError):
            lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict)]
