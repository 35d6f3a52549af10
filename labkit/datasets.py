"""The sample, rows drawn from it, and the real data set (doi 10.24432/C55C7W) that it imitates."""

import random
from pathlib import Path

from labkit.core.settings import LabError, paths
from labkit.pipeline.work.description import description

UCI_URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/abalone/abalone.data"
UCI_SHA256 = "de37cdcdcaaa50c309d514f248f7c2302a5f1f88c168905eba23fe2fbc78449f"


def __getattr__(name: str) -> tuple[str, ...]:
    """``COLUMNS``: what the columns of a file without a header are, as it is described now."""
    if name == "COLUMNS":
        return tuple(description().columns)
    raise AttributeError(name)


class DatasetUnavailable(LabError, OSError):
    """The UCI file could not be had; the message names the address, the cause and the mend."""


def draw(rows: int, seed: int = 114) -> bytes:
    """So many rows of the sample, the same each time, as a CSV without a header.

    Beyond 4,177, rows come twice and more. One of these may be trained on and judged by at once,
    so the figures look better than they are. Raises ValueError below one row.
    """
    if rows < 1:
        raise ValueError(f"rows must be 1 or more, got {rows}")
    lines, rng = paths().example.read_bytes().splitlines(keepends=True), random.Random(seed)
    once = rng.sample(lines, min(rows, len(lines)))
    return b"".join(once + rng.choices(lines, k=rows - len(once)))


def fetch_uci() -> Path:
    """The UCI file (4,177 rows, no header), downloaded once. Raises DatasetUnavailable."""
    import pooch

    cache = pooch.os_cache("labkit")
    try:
        return Path(pooch.retrieve(UCI_URL, f"sha256:{UCI_SHA256}", "abalone.data", cache))
    except (OSError, ValueError) as err:
        why = err if isinstance(err, OSError) else "its sha256 is not the published one"
        mend = "Offline, data/examples/abalone.csv resembles it."
        raise DatasetUnavailable(f"could not get {UCI_URL}: {why}. {mend}") from err
