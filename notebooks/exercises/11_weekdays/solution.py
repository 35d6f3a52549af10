from datetime import timedelta

from temporalio.client import SchedulePolicy, ScheduleSpec

# Each weekday at 06:15 in Berlin.
spec = ScheduleSpec(cron_expressions=["15 6 * * 1-5"], time_zone_name="Europe/Berlin")
# Nothing that is more than twenty minutes late is caught up.
policy = SchedulePolicy(catchup_window=timedelta(minutes=20))
