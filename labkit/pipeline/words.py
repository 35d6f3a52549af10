"""What the workflow says to humans: how long, and why."""

from datetime import timedelta

from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    is_cancelled_exception,
)


def in_words(time: timedelta) -> str:
    """Days, or seconds where it is less than a day, as in a short lesson."""
    seconds = time.total_seconds()
    return f"{seconds:g} seconds" if seconds < 86400 else f"{seconds / 86400:g} days"


def reason(err: BaseException) -> str:
    """What went wrong, in the words of the activity that failed: what a human reads first."""
    if is_cancelled_exception(err):
        return "cancelled on request"
    if isinstance(err, ActivityError) and err.cause:
        err = err.cause
    kind = err.type if isinstance(err, ApplicationError) else type(err).__name__
    message = err.message if isinstance(err, FailureError) else str(err)
    return f"{kind}: {message}" if kind else message
