from temporalio.client import SchedulePolicy, ScheduleSpec

# Each weekday at 06:15 in Berlin.
spec = ScheduleSpec()
# Nothing that is more than twenty minutes late is caught up.
policy = SchedulePolicy()
