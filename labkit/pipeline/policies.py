"""How often each activity is tried, and how long it may take: one place, one reason each.

Intervals are divided by the teaching speed; the doubling and the number of attempts are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError

# Attempts are counted to limit what the work refuses. These are no refusals: a worker that died,
# froze or was stopped; a platform that is not there yet, or has no room. Where attempts are
# limited, Temporal does not try again by itself after one of them. The workflow asks anew, and
# none of the attempts is used up.
PLATFORM_FAULTS = (
    "TemporalTimeout:Heartbeat",
    "TemporalTimeout:StartToClose",
    "WorkerShutdown",
    "ModelServerUnavailable",
    "OSError",
    "PermissionError",
    "MemoryError",
)
# The gaps between askings add up to no more than that, whatever the speed: then the run fails.
PLATFORM_SECONDS = 600


def is_platform_fault(err: ActivityError) -> bool:
    if isinstance(err.cause, ApplicationError):
        return err.cause.type in PLATFORM_FAULTS
    return isinstance(err.cause, TimeoutError)


@dataclass(frozen=True)
class Policy:
    """``attempts`` 0 means no limit. Seconds throughout."""

    start_to_close: float
    first_interval: float
    longest_interval: float = 60.0
    attempts: int = 0
    heartbeat: float | None = None

    def retry_policy(self, speed: float) -> RetryPolicy:
        return RetryPolicy(
            initial_interval=timedelta(seconds=self.first_interval / speed),
            backoff_coefficient=2.0,
            maximum_interval=timedelta(seconds=self.longest_interval / speed),
            maximum_attempts=self.attempts,
            non_retryable_error_types=PLATFORM_FAULTS if self.attempts else None,
        )

    def gaps(self, speed: float) -> Iterator[timedelta]:
        """The gaps after faults of the platform: they double, too, until the time is up."""
        gap, left = self.first_interval / speed, float(PLATFORM_SECONDS)
        while gap <= left:
            yield timedelta(seconds=gap)
            left -= gap
            gap = min(2 * gap, self.longest_interval / speed)


# Activities beat once a second, so a worker that dies is noticed after this many seconds, not at
# the end of the start-to-close timeout. Reading a small file needs no beats.
HEARTBEAT = 3

# Bad data fails at once. What else goes wrong in it does not often get better.
PREPROCESS = Policy(start_to_close=60, first_interval=1, attempts=3, heartbeat=HEARTBEAT)
# Too expensive to lose.
TRAIN = Policy(start_to_close=1800, first_interval=5, longest_interval=120, heartbeat=HEARTBEAT)
# An outage of the database must not fail the pipeline.
LOG_EXPERIMENT = Policy(
    start_to_close=10, first_interval=2, longest_interval=60, heartbeat=HEARTBEAT
)
# Nor must it lose a decision: the deployment to prod waits until the row is there.
RECORD_APPROVAL = LOG_EXPERIMENT
ASSESS = Policy(start_to_close=5, first_interval=1, attempts=3)
DEPLOY = {
    "dev": Policy(start_to_close=30, first_interval=2, attempts=3, heartbeat=HEARTBEAT),
    "prod": Policy(start_to_close=30, first_interval=5, attempts=2, heartbeat=HEARTBEAT),
}
# What undoes a failed deployment must not give up: until it is done, nobody knows what serves.
RESTORE = Policy(start_to_close=30, first_interval=1, longest_interval=60, heartbeat=HEARTBEAT)
