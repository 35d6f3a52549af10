"""What the watcher passed over in ``data/raw``, and why: for whoever asks why nothing happens.

The watcher writes the list; commands and the dashboard read it. An entry is void when its file is
gone.
"""

import json
import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from labkit.core.files import write_atomically
from labkit.core.settings import paths

AT_MOST = 50


def write_passed_over(found: Mapping[str, str]) -> None:
    """Keep the first fifty of these.

    Raises:
        OSError: the disk does not take it.
    """
    there = {path: why for path, why in sorted(found.items()) if os.path.lexists(path)}
    content = json.dumps(dict(islice(there.items(), AT_MOST)), indent=1)
    write_atomically(_file(), content.encode(), mode=0o600)


def read_passed_over() -> dict[str, str]:
    """What was passed over and is still there, by its path as messages name it, and why.

    ``{"data/raw/abalone.data": "does not end in .csv. If it is one, rename it abalone.csv."}``
    """
    try:
        found = json.loads(_file().read_bytes())
        return {
            printable(paths().name(Path(path))): printable(str(why))
            for path, why in found.items()
            if os.path.lexists(path)
        }
    except (OSError, ValueError, AttributeError):  # none yet, or cut short: the next look mends it
        return {}


def printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)


def _file() -> Path:
    return paths().lab / "passed-over.json"
