"""A policy without a window catches up a whole year.

The check says: twenty minutes: expected 0:20:00, got 365 days, 0:00:00
"""

from temporalio.client import SchedulePolicy, ScheduleSpec

# Each weekday at 06:15 in Berlin.
spec = ScheduleSpec(cron_expressions=["15 6 * * 1-5"], time_zone_name="Europe/Berlin")
# Nothing that is more than twenty minutes late is caught up.
policy = SchedulePolicy()
