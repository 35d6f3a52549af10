"""Nothing tells the two errors apart.

The check says: a ValueError: one attempt: expected 1 attempt, got 3
"""

from temporalio.common import RetryPolicy

# A ValueError: one attempt. An OSError: three.
policy = RetryPolicy(maximum_attempts=3)
