"""How often each activity is tried, and how long it may take: one place, one reason each.

Intervals are divided by the teaching speed; the doubling and the number of attempts are not.
"""

from dataclasses import dataclass
from datetime import timedelta

from temporalio.common import RetryPolicy


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
        )


# Bad data does not get better.
PREPROCESS = Policy(start_to_close=60, first_interval=1, attempts=3)
# Too expensive to lose. A worker that dies is noticed after one missed heartbeat.
TRAIN = Policy(start_to_close=1800, first_interval=5, longest_interval=120, heartbeat=5)
# An outage of the database must not fail the pipeline.
LOG_EXPERIMENT = Policy(start_to_close=10, first_interval=2, longest_interval=60)
# Nor must it lose a decision: the deployment to prod waits until the row is there.
RECORD_APPROVAL = LOG_EXPERIMENT
ASSESS = Policy(start_to_close=10, first_interval=1, attempts=3)
DEPLOY = {
    "dev": Policy(start_to_close=30, first_interval=2, attempts=3),
    "prod": Policy(start_to_close=30, first_interval=5, attempts=2),
}
RESTORE = Policy(start_to_close=30, first_interval=1, attempts=5)
