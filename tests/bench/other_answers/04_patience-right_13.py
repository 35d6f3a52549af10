"""Equal gaps of 13 s: 24 attempts in five minutes."""

from datetime import timedelta

from temporalio.common import RetryPolicy

policy = RetryPolicy(initial_interval=timedelta(seconds=13), backoff_coefficient=1)
