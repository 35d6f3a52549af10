"""An activity, and a workflow of six lines that calls it."""

from types import ModuleType

from labkit.bench import Exercise, Ledger, Try, expect, require, try_out

exercise = Exercise(
    task="Write an activity hello(name), and a workflow Hello that calls it.",
    hints=[
        "The activity only returns the text. The workflow awaits workflow.execute_activity.",
        "workflow.execute_activity(hello, name, start_to_close_timeout=timedelta(seconds=5))",
    ],
    right="Your first workflow. Its history holds the activity's name, argument and result.",
)


def greeted(mine: ModuleType, name: str) -> Try:
    # One failure is enough to know that it would be retried for ever.
    return try_out(mine.Hello, name, activities=[mine.hello], until=Ledger.failures).ended()


@exercise.shared
def ada(mine: ModuleType) -> Try:
    return greeted(mine, "Ada")


@exercise.case("the workflow returns 'Hello, Ada!'")
def says_hello(mine: ModuleType) -> None:
    expect(ada(mine).result, "Hello, Ada!")


@exercise.case("the history has one activity, hello")
def by_an_activity(mine: ModuleType) -> None:
    scheduled = ada(mine).scheduled()
    require(
        scheduled == ["hello"],
        f"expected ['hello'], got {scheduled}: call it through workflow.execute_activity, "
        f"or nothing is recorded and nothing is retried",
    )


@exercise.case("it greets others as well")
def greets_others(mine: ModuleType) -> None:
    ada(mine)
    expect(greeted(mine, "Bo").result, "Hello, Bo!")
