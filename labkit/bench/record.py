"""How far a participant is: ``.lab/progress.json``, which several kernels write."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from labkit.core.files import write_atomically
from labkit.core.paths import paths

RIGHT, NOT_YET, NOT_ATTEMPTED = "right", "not yet right", "not attempted"
LOCK_SECONDS = 10

Entry = dict[str, Any]


def read() -> dict[str, Entry]:
    """What is kept for each exercise and prediction, by its name, such as ``00_hello``."""
    try:
        return _parsed(_path().read_bytes()) or {}
    except OSError:
        return {}


def change(name: str, how: Callable[[Entry], None]) -> Entry:
    """Change one entry under a lock, and return it as it is now.

    A record that cannot be kept stops no exercise: it says so, and goes on.
    """
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS):
            _set_broken_aside(path)
            record = read()
            how(record.setdefault(name, {}))
            write_atomically(path, json.dumps(record, indent=1, ensure_ascii=False).encode())
            return record[name]
    except (OSError, Timeout) as err:
        print(f"Your progress could not be kept in {paths().name(path)}: {err}")
        kept = dict(read().get(name, {}))
        how(kept)
        return kept


def progress() -> str:
    """Every notebook at a glance: a line each, and a mark for each exercise."""
    from labkit.bench.content import folders

    kept, lines = read(), []
    for number in sorted({folder.name[:2] for folder in folders()}):
        names = [folder.name for folder in folders(number)]
        outcomes = [kept.get(name, {}).get("outcome", NOT_ATTEMPTED) for name in names]
        marks = " ".join(
            f"{MARKS[outcome]} {name[3:]}" for name, outcome in zip(names, outcomes, strict=True)
        )
        lines.append(f"{number}  {outcomes.count(RIGHT)} of {len(names)} right   {marks}")
    return "\n".join(lines)


MARKS = {RIGHT: "✓", NOT_YET: "✗", NOT_ATTEMPTED: "–"}


def _path() -> Path:
    return paths().lab / "progress.json"


def _parsed(text: bytes) -> dict[str, Entry] | None:
    """None when somebody wrote something else into the file, or it was cut off."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    whole = isinstance(found, dict) and all(isinstance(entry, dict) for entry in found.values())
    return found if whole else None


def _set_broken_aside(path: Path) -> None:
    if path.exists() and _parsed(path.read_bytes()) is None:
        aside = path.with_name(f"broken-{os.getpid()}-{path.name}")
        path.replace(aside)
        print(f"{paths().name(path)} cannot be read. It is {aside.name} now.")
