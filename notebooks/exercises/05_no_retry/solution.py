from temporalio.common import RetryPolicy

# A ValueError: one attempt. An OSError: three.
policy = RetryPolicy(maximum_attempts=3, non_retryable_error_types=["ValueError"])
