"""The waits do not grow.

The check says: got [0, 1, 2, 3]
"""

from datetime import timedelta

from temporalio.common import RetryPolicy

# Attempts at 0, 1, 3 and 7 seconds, then no more.
policy = RetryPolicy(
    initial_interval=timedelta(seconds=1), backoff_coefficient=1, maximum_attempts=4
)
