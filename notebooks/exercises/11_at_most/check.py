"""Three at once, and a bad one that stops nobody."""

from types import ModuleType

from temporalio import activity
from temporalio.exceptions import ApplicationError

from labkit.bench import Exercise, Try, effect, expect, require, try_out, work

NAMES = [f"file-{number}" for number in range(9)]
BAD = "file-4-bad"
REASON = f"{BAD} has no rows"
WORK_SECONDS = 0.1

exercise = Exercise(
    task="Train for all names, at most three at once. A bad one stops none of the others.",
    hints=[
        "asyncio.gather asks for all at once. What lets three in, and the next one when one of "
        "them comes out?",
        "self.slots = asyncio.Semaphore(3) in run, and async with self.slots: around the call.",
        "A failed activity raises ActivityError where you await it. Catch it there, for each name "
        "alone; its cause has the reason.",
    ],
    right=(
        "The semaphore is plain asyncio, and its order is the same in each replay. The queue of "
        "those that wait is in the workflow, so it survives its worker."
    ),
)


@activity.defn
def train(name: str) -> str:
    effect(f"+{name}")
    work(WORK_SECONDS)
    effect(f"-{name}")
    if name == BAD:
        raise ApplicationError(REASON, non_retryable=True)
    return f"model of {name}"


def tried(mine: ModuleType, names: list[str]) -> Try:
    return try_out(mine.AtMost, names, activities=[train], seconds=4).ended()


@exercise.shared
def good(mine: ModuleType) -> Try:
    return tried(mine, NAMES)


@exercise.case("nine good ones: each name has its model")
def each(mine: ModuleType) -> None:
    expect(good(mine).result, {name: f"model of {name}" for name in NAMES})


@exercise.case("three at once, and never more")
def three(mine: ModuleType) -> None:
    open_now = most = 0
    for step in good(mine).effects("train"):
        open_now += 1 if step.startswith("+") else -1
        most = max(most, open_now)
    require(most <= 3, f"there were {most} at once")
    require(most == 3, f"there was never more than {most}")


@exercise.case("a bad one has its reason, and stops none of the others")
def bad(mine: ModuleType) -> None:
    names = [*NAMES[:2], BAD, *NAMES[2:5]]
    result = tried(mine, names).result
    wanted = {name: REASON if name == BAD else f"model of {name}" for name in names}
    expect(result, wanted)
