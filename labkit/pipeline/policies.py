"""How often each activity is tried, and how long it may take: one place, one reason each.

Intervals are divided by the teaching speed, and nothing else is.
"""

from dataclasses import dataclass
from datetime import timedelta

from temporalio.common import RetryPolicy

# Attempts are counted to limit what the work refuses. These are faults of the platform, and use up
# none of them: Temporal does not try again by itself, and the workflow asks anew.
PLATFORM_FAULTS = (
    "TemporalTimeout:Heartbeat",
    "TemporalTimeout:StartToClose",
    "WorkerShutdown",
    "ModelServerUnavailable",
    "OSError",
    "PermissionError",
    "MemoryError",
)


@dataclass(frozen=True)
class Policy:
    """``attempts`` 0 means no limit. Seconds throughout."""

    start_to_close: float
    first_interval: float
    longest_interval: float = 60.0
    attempts: int = 0
    heartbeat: float | None = None
    # 1 goes first: what is nearly done before what is new.
    priority: int = 2

    @property
    def heartbeat_timeout(self) -> timedelta | None:
        return timedelta(seconds=self.heartbeat) if self.heartbeat else None

    def retry_policy(self, speed: float) -> RetryPolicy:
        return RetryPolicy(
            initial_interval=timedelta(seconds=self.first_interval / speed),
            backoff_coefficient=2.0,
            maximum_interval=timedelta(seconds=self.longest_interval / speed),
            maximum_attempts=self.attempts,
            non_retryable_error_types=PLATFORM_FAULTS if self.attempts else None,
        )


# Activities beat once a second: a dead worker is noticed after so many.
HEARTBEAT = 3

# Bad data fails at once. Three attempts are for what nobody foresaw.
PREPROCESS = Policy(
    start_to_close=60, first_interval=1, attempts=3, heartbeat=HEARTBEAT, priority=5
)
# Too expensive to lose.
TRAIN = Policy(1800, first_interval=5, longest_interval=120, heartbeat=HEARTBEAT, priority=4)
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
# What undoes a failed deployment must not give up.
RESTORE = Policy(start_to_close=30, first_interval=1, longest_interval=60, heartbeat=HEARTBEAT)
