"""Make a workflow deterministic: a clock, a lot, the order of a set, and a global."""

from collections.abc import Sequence
from types import ModuleType

from temporalio import activity
from temporalio.common import RawValue

from labkit.bench import Exercise, Try, expect, replay, require, try_out

OFFICES = ["east", "north", "south", "west"]
REPLAYS, HASH_SEEDS, MOST_RUNS = 8, (1, 2), 14

exercise = Exercise(
    task="Make Tour deterministic. It must do what it did: draw lots, and look at the clock.",
    hints=[
        "Replay runs the code again, and must come to the same activities in the same order. "
        "Four lines of this file need not.",
        "The sandbox names two of them. It cannot see the order of a set, nor a global generator.",
        "workflow.random() draws lots, workflow.now() is the clock, sorted(OFFICES) has an order.",
    ],
    right="Lots and clock come from the history now, so every replay sees the same ones.",
)


@activity.defn(dynamic=True)
def visit(arguments: Sequence[RawValue]) -> str:
    """Stands for every place."""
    return activity.info().activity_type


@exercise.shared
def toured(mine: ModuleType) -> Try:
    return try_out(mine.Tour, activities=[visit]).ended()


@exercise.case("it visits what it should")
def visits(mine: ModuleType) -> None:
    places = toured(mine).result
    require(isinstance(places, list) and len(places) >= 6, f"expected six visits, got {places!r}")
    require(places[0] in OFFICES, f"expected an office first, got {places[0]!r}")
    expect(sorted(places[1:5]), OFFICES, "all four offices after the first visit")
    require(
        places[-1] in ("early bar", "late bar"), f"expected a bar at the end, got {places[-1]!r}"
    )


@exercise.case("its history replays, again and again")
def replays(mine: ModuleType) -> None:
    history = toured(mine).history
    assert history
    for _ in range(REPLAYS):
        said = replay(mine.Tour, history)
        require(not said, f"replayed here: {said}")


@exercise.case("and in other processes")
def replays_elsewhere(mine: ModuleType) -> None:
    history = toured(mine).history
    assert history
    for seed in HASH_SEEDS:
        said = replay(mine.Tour, history, hash_seed=seed)
        require(not said, f"replayed in another process: {said}")


@exercise.case("lots are still drawn")
def draws(mine: ModuleType) -> None:
    runs = [toured(mine).result]
    while len(runs) < MOST_RUNS and not all(differ(runs)):
        runs.append(try_out(mine.Tour, activities=[visit]).ended().result)
    first, auditor = differ(runs)
    require(
        first, f"expected another first office now and then, got {runs[0][0]!r} {len(runs)} times"
    )
    require(auditor, f"expected the auditor in about half of the runs, got {len(runs)} alike")


def differ(runs: list[list[str]]) -> tuple[bool, bool]:
    """Whether the runs differ in the first office, and in the auditor."""
    return len({run[0] for run in runs}) > 1, len({"auditor" in run for run in runs}) > 1
