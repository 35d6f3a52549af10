"""Count to five by activities. The worker is killed twice, and each number comes once."""

from types import ModuleType

from labkit.bench import Exercise, Fault, Try, expect, require, try_out

NUMBERS = [1, 2, 3, 4, 5]

exercise = Exercise(
    task="Write a workflow that notes 1 to 5 by activities. Its worker will be killed twice.",
    hints=[
        "The workflow needs no state and no care: what has answered is in the history.",
        "A loop over range(1, 6), and in it one await of workflow.execute_activity.",
        "await workflow.execute_activity(note, number, **OPTIONS)",
    ],
    right=(
        "Three processes ran it, and the loop never knew. The bench killed each worker before the "
        "effect. A kill between effect and answer would repeat it: activities run at least once."
    ),
)


@exercise.shared
def undisturbed(mine: ModuleType) -> Try:
    tried = try_out(mine.CountToFive, activities=[mine.note]).ended()
    count = tried.scheduled().count("note")
    require(count == 5, f"expected five calls of note in the history, got {count}")
    return tried


@exercise.shared
def killed(mine: ModuleType) -> Try:
    """The second and the fourth call hang before their effect, and the worker is killed."""
    undisturbed(mine)
    return try_out(
        mine.CountToFive,
        activities=[mine.note],
        fault={"note": Fault(hang=True, calls=[2, 4])},
        kill_at=[lambda ledger: begun(ledger, 2), lambda ledger: begun(ledger, 4)],
        seconds=15,
    ).ended()


def begun(ledger: list, call: int) -> bool:
    return len({line["id"] for line in ledger}) >= call


@exercise.case("undisturbed: 1 to 5, in order")
def counts(mine: ModuleType) -> None:
    expect(undisturbed(mine).effects(), NUMBERS)


@exercise.case("killed twice: each number once, in order")
def counts_on(mine: ModuleType) -> None:
    expect(killed(mine).effects(), NUMBERS)


@exercise.case("three processes had a part in it")
def three_workers(mine: ModuleType) -> None:
    expect(len(killed(mine).ledger.pids()), 3)
