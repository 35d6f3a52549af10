"""A long run in pieces of ten, whose worker is killed."""

from collections import Counter
from types import ModuleType

from temporalio.client import Client, WorkflowHistory

from labkit.ask.history import count_events
from labkit.bench import Exercise, Try, expect, require, try_out, with_client

NAMES, MOST = [f"file-{number}" for number in range(25)], 10
KILL_AT = 13

exercise = Exercise(
    task="Train for 25 names, at most ten in a run, then begin anew. Count all of them.",
    hints=[
        "workflow.continue_as_new(args=[…]) ends this run, and starts the next one with those "
        "arguments. Nothing else is carried over.",
        "names[:10] are for this run, and names[10:] for the next ones. When there are none left, "
        "return.",
        "done counts over all runs: add to it what this one has trained, and pass it on.",
    ],
    right=(
        "The id stays, the history is empty again, and what you pass is all that the new run "
        "knows. A crash between two runs loses nothing: the server makes both at one stroke."
    ),
)


@exercise.shared
def trained(mine: ModuleType) -> tuple[Try, list[WorkflowHistory]]:
    """The try whose worker is killed, and the history of each of its runs, oldest first."""
    tried = try_out(mine.Anew, NAMES, activities=[mine.train], kill_at=KILL_AT, seconds=10).ended()

    async def chain(client: Client) -> list[WorkflowHistory]:
        found, run_id = [], None
        while run_id != "":
            history = await client.get_workflow_handle(tried.id, run_id=run_id).fetch_history()
            found.append(history)
            begun = history.events[0].workflow_execution_started_event_attributes
            run_id = begun.continued_execution_run_id
        return found[::-1]

    return tried, with_client(chain)


@exercise.case("25 names: that is the number that comes back")
def number(mine: ModuleType) -> None:
    expect(trained(mine)[0].result, len(NAMES))


@exercise.case("no run trains more than ten")
def short_runs(mine: ModuleType) -> None:
    most = max(count_events(history)["ActivityTaskScheduled"] for history in trained(mine)[1])
    require(most <= MOST, f"one trained {most}")


@exercise.case("its worker is killed, and each name comes once")
def once(mine: ModuleType) -> None:
    counts = Counter(trained(mine)[0].effects("train"))
    twice = [name for name, times in counts.items() if times > 1]
    require(not twice, f"these came twice: {', '.join(twice)}")
    left = [name for name in NAMES if name not in counts]
    require(not left, f"these never came: {', '.join(left)}")
