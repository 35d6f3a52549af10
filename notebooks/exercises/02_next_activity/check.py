"""Which activity would run next after a crash? The history has the answer."""

from datetime import timedelta
from types import ModuleType

from temporalio import activity, workflow
from temporalio.client import WorkflowHistory

from labkit.bench import Exercise, Try, expect, try_out

ORDER = ["mix", "bake", "pack"]

exercise = Exercise(
    task="Write next_activity(history, order): what a new worker would run first.",
    hints=[
        "A new worker replays the history. An activity that has answered does not run again: its "
        "result is taken from there.",
        "What counts is EVENT_TYPE_ACTIVITY_TASK_COMPLETED. An activity that was only scheduled "
        "has not answered.",
        "How many are completed? The next one in the order is order[that many], if there is one.",
    ],
    right="That is replay: finished steps are read, and the first unfinished one is run.",
)


def cake(step: str) -> str:
    return f"{step}: done"


@activity.defn
def mix() -> str:
    return cake("mix")


@activity.defn
def bake() -> str:
    return cake("bake")


@activity.defn
def pack() -> str:
    return cake("pack")


@workflow.defn
class Bakery:
    @workflow.run
    async def run(self, order: list[str]) -> None:
        for name in order:
            await workflow.execute_activity(name, start_to_close_timeout=timedelta(seconds=5))


@exercise.shared
def baked(mine: ModuleType) -> Try:
    return try_out(Bakery, ORDER, activities=[mix, bake, pack]).ended()


def until(tried: Try, type: str, count: int) -> WorkflowHistory:
    """The history as it was right after the so many-th event of a type."""
    numbers = [number for number, name in enumerate(tried.events(), 1) if name == type]
    assert tried.history
    return WorkflowHistory(tried.id, tried.history.events[: numbers[count - 1]])


@exercise.case("the run has just begun")
def begun(mine: ModuleType) -> None:
    history = until(baked(mine), "WorkflowExecutionStarted", 1)
    expect(mine.next_activity(history, ORDER), "mix")


@exercise.case("the first has answered")
def first(mine: ModuleType) -> None:
    history = until(baked(mine), "ActivityTaskCompleted", 1)
    expect(mine.next_activity(history, ORDER), "bake")


@exercise.case("the second is under way")
def second(mine: ModuleType) -> None:
    history = until(baked(mine), "ActivityTaskScheduled", 2)
    expect(mine.next_activity(history, ORDER), "bake")


@exercise.case("everything has answered")
def last(mine: ModuleType) -> None:
    history = until(baked(mine), "ActivityTaskCompleted", 3)
    expect(mine.next_activity(history, ORDER), None)
