"""Errors that no retry will mend. The workflow fails at the first attempt, and says why."""

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.exceptions import ApplicationError

from labkit.core.paths import LabError

FAIL_FAST = (
    "InvalidPassword",
    "InvalidCatalogName",
    "InvalidData",
    "InsufficientData",
    "FileNotFound",
    "InvalidSettings",
)


def fail_fast(kind: str, message: str) -> ApplicationError:
    """Make a non-retryable error.

    Args:
        kind: one of :data:`FAIL_FAST`; what ``ApplicationError.type`` says.
        message: what is wrong and how to mend it, for a human.
    """
    if kind not in FAIL_FAST:
        raise ValueError(f"{kind} is not one of {', '.join(FAIL_FAST)}")
    return ApplicationError(message, type=kind, non_retryable=True)


@contextmanager
def wrong_settings_fail_fast() -> Iterator[None]:
    """What the settings lack does not come by waiting."""
    try:
        yield
    except LabError as err:
        raise fail_fast("InvalidSettings", str(err)) from None
