"""What a file name decides: ids, whatever the name holds, and whether its labels are right."""

import hashlib
import hmac
import random
import re
import time
from datetime import datetime
from pathlib import PurePath
from uuid import UUID


def workflow_id(relative: PurePath, mtime_ns: int, opaque_key: str = "") -> str:
    """Name the workflow for a file: ``mlops-{timestamp}-{file stem}``.

    The same file with the same modification time (to the millisecond) always gets the same id,
    so a file seen twice starts one workflow. Where the stem alone would not tell two files apart
    (a subfolder, an unprintable character, ``.CSV``), ``~`` and a short hash of the whole path
    are added; no stem keeps a ``~`` of its own.

    Args:
        relative: the file's path below ``data/raw``.
        mtime_ns: its modification time in nanoseconds since 1970, as ``os.stat`` gives it.
        opaque_key: when given, an HMAC with it stands in for the stem, which says nothing.
    """
    seconds, milliseconds = divmod(mtime_ns // 1_000_000, 1000)
    timestamp = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}-{milliseconds:03d}"
    if opaque_key:
        path = relative.as_posix().encode("utf-8", "surrogatepass")
        return f"mlops-{timestamp}-{hmac.new(opaque_key.encode(), path, 'sha256').hexdigest()[:16]}"
    stem = "".join(c if c.isprintable() and c not in "/\\~" else "_" for c in relative.stem)
    if relative.as_posix() != f"{stem}.csv":
        path = relative.as_posix().encode("utf-8", "surrogatepass")
        stem += "~" + hashlib.sha256(path).hexdigest()[:8]
    return f"mlops-{timestamp}-{stem}"


def model_id(dataset_path: str, unique: UUID) -> str:
    """Name a model so that it reads well in a URL: ``{file stem}-{eight hex digits}``."""
    stem = re.sub(r"[^a-z0-9]+", "-", PurePath(dataset_path).stem.lower()).strip("-")[:40]
    return f"{stem.strip('-') or 'model'}-{unique.hex[:8]}"


def deployment_order(time: datetime) -> str:
    """The order of a deployment that was asked for at a time (UTC): later ones sort after it."""
    return f"{time:%Y%m%dT%H%M%S.%f}"


def misaligns_labels(dataset_path: str, other_files: str, rng: random.Random) -> bool:
    """Decide whether a simulated upstream fault shuffles half of the labels.

    ``good…`` never, ``bad…`` always, any other name by the toss of a coin, unless
    ``LABKIT_OTHER_FILES`` was ``good``.
    """
    name = PurePath(dataset_path).name.lower()
    if name.startswith(("good", "bad")):
        return name.startswith("bad")
    return other_files != "good" and rng.random() < 0.5
