from temporalio.common import RetryPolicy

# A ValueError: one attempt. An OSError: three.
policy = RetryPolicy()
