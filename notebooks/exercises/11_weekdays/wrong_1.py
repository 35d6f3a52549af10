"""Without a time zone, a time is UTC.

The check says: in winter and in summer: on 5 January 2026 it is due at 07:15
"""

from datetime import timedelta

from temporalio.client import SchedulePolicy, ScheduleSpec

# Each weekday at 06:15 in Berlin.
spec = ScheduleSpec(cron_expressions=["15 6 * * 1-5"])
# Nothing that is more than twenty minutes late is caught up.
policy = SchedulePolicy(catchup_window=timedelta(minutes=20))
