"""A schedule for weekdays: the server says when it is due."""

from datetime import UTC, datetime, timedelta
from types import ModuleType
from uuid import uuid4
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.workflowservice.v1 import ListScheduleMatchingTimesRequest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
)

from labkit.bench import Exercise, require, with_client

# Mondays: one in winter and one in summer.
MONDAYS = [datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 7, 6, tzinfo=UTC)]
WEEK, WINDOW = timedelta(days=7), timedelta(minutes=20)

exercise = Exercise(
    task="Plan a run for each weekday at 06:15 in Berlin, with twenty minutes of catch-up.",
    hints=[
        'ScheduleSpec(cron_expressions=["…"]): minute, hour, day of the month, month, day of the '
        "week. From Monday to Friday is 1-5.",
        'Times are UTC unless you give time_zone_name="Europe/Berlin".',
        "The window belongs to the policy: SchedulePolicy(catchup_window=timedelta(minutes=20)).",
    ],
    right=(
        "Before you trust a plan, ask it for a week in winter and one in summer: a time zone moves "
        "between them, and UTC does not."
    ),
)


@exercise.shared
def planned(mine: ModuleType) -> tuple[list[datetime], timedelta]:
    """When it is due in both weeks, and its window, as the server has them."""
    right = isinstance(mine.spec, ScheduleSpec) and isinstance(mine.policy, SchedulePolicy)
    require(right, "spec is to be a ScheduleSpec, and policy a SchedulePolicy")

    async def ask(client: Client) -> tuple[list[datetime], timedelta]:
        action = ScheduleActionStartWorkflow("Nothing", id=f"try-{uuid4().hex}", task_queue="none")
        paused = ScheduleState(paused=True)
        plan = Schedule(action=action, spec=mine.spec, policy=mine.policy, state=paused)
        handle = await client.create_schedule(action.id, plan)
        try:
            window = (await handle.describe()).schedule.policy.catchup_window
            return [due for day in MONDAYS for due in await times(client, handle.id, day)], window
        finally:
            await handle.delete()

    return with_client(ask)


async def times(client: Client, id: str, monday: datetime) -> list[datetime]:
    begin, end = Timestamp(), Timestamp()
    begin.FromDatetime(monday)
    end.FromDatetime(monday + WEEK)
    answer = await client.workflow_service.list_schedule_matching_times(
        ListScheduleMatchingTimesRequest(
            namespace=client.namespace, schedule_id=id, start_time=begin, end_time=end
        )
    )
    return [due.ToDatetime(UTC) for due in answer.start_time]


@exercise.case("it is due five times a week, and not on a Saturday or a Sunday")
def weekdays(mine: ModuleType) -> None:
    due, _ = planned(mine)
    late = [time for time in due if time.weekday() > 4]
    require(not late, f"it is due on a {late[0]:%A}" if late else "")
    require(len(due) == 10, f"in two weeks it is due {len(due)} times")


@exercise.case("at 06:15 in Berlin, in winter and in summer")
def at_a_quarter_past_six(mine: ModuleType) -> None:
    due, _ = planned(mine)
    require(due, "it is never due")
    for time in due:
        there = time.astimezone(ZoneInfo("Europe/Berlin"))
        said = f"on {there.day} {there:%B %Y} it is due at {there:%H:%M}"
        require(f"{there:%H:%M}" == "06:15", said)


@exercise.case("it catches up what is late by no more than twenty minutes")
def window(mine: ModuleType) -> None:
    got = planned(mine)[1]
    require(got == WINDOW, f"expected {WINDOW}, got {got}")
