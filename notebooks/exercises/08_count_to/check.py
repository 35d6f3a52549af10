"""Count with heartbeat details. The worker is killed at 40 %, and each number comes once."""

from types import ModuleType

from labkit.bench import Exercise, Try, expect, require, try_out

N = 20

exercise = Exercise(
    task="Count to n with heartbeats, so that a killed worker repeats nothing.",
    hints=[
        "activity.heartbeat(x) tells the server. The next attempt finds x in "
        "activity.info().heartbeat_details.",
        "done = details[0] if details else 0, then range(done, n). "
        "Send how many are done, after each one.",
    ],
    right=(
        "This worker sends each heartbeat at once. With the usual throttle a kill repeats what "
        "came after the last one sent: at least once, which here looks like once."
    ),
)


@exercise.case("counts to 20 when nothing happens")
def undisturbed(mine: ModuleType) -> None:
    tried = try_out(mine.Count, N, activities=[mine.count_to]).ended()
    expect(tried.effects(), list(range(N)), "these are the effects, in order")


def killed_once(mine: ModuleType) -> Try:
    return try_out(
        mine.Count, N, activities=[mine.count_to], kill_at=int(0.4 * N), seconds=15
    ).ended()


@exercise.case("killed at 40 %: each number once")
def killed(mine: ModuleType) -> None:
    numbers = killed_once(mine).effects()
    twice = sorted({i for i in numbers if numbers.count(i) > 1})
    require(not twice, f"expected each number once, got {len(twice)} of them twice: {twice}")
    never = sorted(set(range(N)) - set(numbers))
    require(not never, f"expected each number once, and these never came: {never}")
