"""The compensation of a booking in two steps. A step may fail after it has booked."""

from datetime import timedelta
from types import ModuleType

from labkit.bench import Exercise, Fault, Ledger, Off, Try, quoted, require, try_out

LOST = Fault(after=True, error="no answer to the booking", type="NoAnswer")
DOWN = Fault(error="cancellations are down", type="Down")

exercise = Exercise(
    task="Give the workflow Trip its compensation: when a booking fails, nothing stays booked.",
    hints=[
        "A step that failed may have booked all the same: its answer was lost. So its own "
        "cancellation belongs to those that must run.",
        "Note what is to be cancelled before the step, not after it. A list will do.",
        "try: … except Exception: await each cancellation, then raise. A cancellation needs "
        "another retry policy than ONCE; Temporal's own has no limit.",
    ],
    right=(
        "Note the compensation first, take the step then. A compensation is retried without a "
        "limit, so it must do no harm when it runs twice, or when there is nothing to undo."
    ),
)


def trip(mine: ModuleType, **fault: Fault) -> Try:
    activities = [mine.book_flight, mine.book_hotel, mine.cancel_flight, mine.cancel_hotel]
    return try_out(
        mine.Trip,
        activities=activities,
        fault=fault,
        skip=timedelta(days=1),
        until=Ledger.failures,
    )


def booked(tried: Try) -> set[str]:
    """What stays, after all that was done."""
    stays: set[str] = set()
    for value in tried.effects():
        what, done = value.split()
        (stays.add if done == "booked" else stays.discard)(what)
    return stays


def require_nothing_booked(tried: Try) -> None:
    require("booked" in " ".join(tried.effects()), f"nothing was booked at all: the try {tried}")
    if tried.running:
        raise Off(f"the run had not ended: {tried.why}")
    stays = ", ".join(sorted(booked(tried)))
    require(not stays, f"expected nothing booked at the end, got {stays}; the try {tried}")


@exercise.shared
def undisturbed(mine: ModuleType) -> Try:
    return trip(mine).ended()


@exercise.case("nothing fails: flight and hotel are booked, and nothing is cancelled")
def books(mine: ModuleType) -> None:
    done = undisturbed(mine).effects()
    wanted = ["flight booked", "hotel booked"]
    require(sorted(done) == wanted, f"expected {wanted}, got {done}")


@exercise.shared
def hotel_lost(mine: ModuleType) -> Try:
    undisturbed(mine)
    return trip(mine, book_hotel=LOST)


@exercise.case("the hotel fails after it was booked: nothing stays booked")
def undoes_both(mine: ModuleType) -> None:
    require_nothing_booked(hotel_lost(mine))


@exercise.case("the same, and each cancellation fails once")
def undoes_at_last(mine: ModuleType) -> None:
    require_nothing_booked(hotel_lost(mine))
    require_nothing_booked(trip(mine, book_hotel=LOST, cancel_flight=DOWN, cancel_hotel=DOWN))


@exercise.case("the flight fails after it was booked: nothing stays booked")
def undoes_the_first(mine: ModuleType) -> None:
    undisturbed(mine)
    require_nothing_booked(trip(mine, book_flight=LOST))


@exercise.case("the run fails in the end, and says which booking failed")
def says_so(mine: ModuleType) -> None:
    tried = hotel_lost(mine)
    require(tried.running or tried.failure, "expected the run to fail, and it completed")
    said = quoted(tried.failure) if tried.failure else tried.why
    require(LOST.error in said, f"expected the error of the booking, got {said}")
