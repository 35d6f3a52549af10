"""An assertion of one's own: training answered, and at the first attempt."""

from types import ModuleType

from exercise_shared.standins import try_pipeline

from labkit.bench import Exercise, Fault, Off, Try, quoted

exercise = Exercise(
    task="Write trained_once(history): raise AssertionError unless training answered at once.",
    hints=[
        "An activity makes two events when it ends: …STARTED, with its last attempt, and "
        "…COMPLETED or …FAILED. A retry makes none.",
        "Both carry scheduledEventId: the eventId of the …SCHEDULED event, which has the name.",
        "Find the eventId whose activityType is train_model. Then assert that the STARTED event "
        "with that scheduledEventId has attempt 1, and that there is a COMPLETED one.",
    ],
    right="A history says how an activity ended and at which attempt, not what each attempt did.",
)


def accepts(mine: ModuleType, tried: Try) -> None:
    try:
        mine.trained_once(tried.history)
    except AssertionError as err:
        raise Off(f"expected no error, got {quoted(err)}") from err


def refuses(mine: ModuleType, tried: Try) -> None:
    try:
        answer = mine.trained_once(tried.history)
    except AssertionError:
        return
    returned = "" if answer is None else f": it returned {answer!r}"
    raise Off(f"expected an AssertionError, and nothing was raised{returned}")


@exercise.case("a clean run")
def clean(mine: ModuleType) -> None:
    accepts(mine, try_pipeline("bad.csv").ended())


@exercise.case("another activity was tried twice")
def other_retried(mine: ModuleType) -> None:
    accepts(mine, try_pipeline("bad.csv", fault={"log_experiment": Fault()}).ended())


@exercise.case("training was tried twice")
def retried(mine: ModuleType) -> None:
    refuses(mine, try_pipeline("bad.csv", fault={"train_model": Fault()}).ended())


@exercise.case("training failed")
def failed(mine: ModuleType) -> None:
    refuses(mine, try_pipeline("bad.csv", fault={"train_model": Fault(non_retryable=True)}))


@exercise.case("nothing was trained")
def never(mine: ModuleType) -> None:
    refuses(mine, try_pipeline("broken.csv"))
