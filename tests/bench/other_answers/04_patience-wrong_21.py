"""One second too long."""

from datetime import timedelta

from temporalio.common import RetryPolicy

policy = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=21))
