"""Ten hours between the attempts, and one more name."""

from datetime import timedelta

from temporalio.common import RetryPolicy

policy = RetryPolicy(
    initial_interval=timedelta(hours=10),
    maximum_attempts=3,
    non_retryable_error_types=("ValueError", "TypeError"),
)
