"""The machine's clock, set back an hour: only where somebody says that the machine may bear it.

A time namespace has no time of day of its own, and libfaketime breaks ``time.sleep`` and cannot
reach Temporal's server, which asks the kernel past any library. So it is the real clock or none.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

HOUR = 3600.0
MAY_SET = bool(os.environ.get("CHAOS_CLOCK")) and hasattr(time, "clock_settime")
NAME = (
    "setting the machine's own (settimeofday)"
    if MAY_SET
    else "NOTHING: it belongs to everybody here. On a machine of its own: make chaos CLOCK=1"
)


@contextmanager
def set_back() -> Iterator[None]:
    """Needs root."""
    _shift(-HOUR)
    try:
        yield
    finally:
        _shift(HOUR)


def _shift(seconds: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)
