"""A validator of an update. What it refuses leaves no trace in the history."""

from types import ModuleType

from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError

from labkit.bench import Exercise, Off, Try, expect, require, try_out

REASON = "the data is a month old"

exercise = Exercise(
    task="Let the workflow Asks refuse a rejection without a reason, before it is recorded.",
    hints=[
        "An error in the handler comes after the update was accepted. A validator comes before.",
        "@decide.validator stands over a method with the same arguments, which raises or does "
        "nothing.",
        'if not approved and not reason.strip(): raise ValueError("A rejection needs a reason.")',
    ],
    right=(
        "The sender got an error at once, and the history has nothing of it. A signal could have "
        "said neither yes nor no."
    ),
)


def asked(mine: ModuleType, *decisions: tuple[bool, str]) -> Try:
    """Send decisions until one is accepted. The answer has what was said of each."""

    async def decide(client: Client, handle: WorkflowHandle) -> list[str]:
        said = []
        for decision in decisions:
            try:
                said.append(await handle.execute_update("decide", args=decision))
                return said
            except WorkflowUpdateFailedError as refused:
                said.append(f"refused: {refused.cause}")
        await handle.terminate()
        return said

    tried = try_out(mine.Asks, meanwhile=decide, seconds=3)
    if tried.answer is None:
        raise Off(str(tried))
    return tried


@exercise.case("an approval needs no reason")
def approval(mine: ModuleType) -> None:
    require_accepted(asked(mine, (True, "")), "approved")


@exercise.case("a rejection with a reason is accepted")
def rejection(mine: ModuleType) -> None:
    require_accepted(asked(mine, (False, REASON)), f"rejected: {REASON}")


def require_accepted(tried: Try, result: str) -> None:
    said = tried.answer[-1]
    require(not said.startswith("refused"), f"it was {said}")
    expect(said, result)
    expect(tried.ended().result, result)


@exercise.shared
def refused(mine: ModuleType) -> Try:
    """Two that are to be refused, and were, and one that is not."""
    tried = asked(mine, (False, ""), (False, "  "), (False, REASON))
    for reason, said in zip(("", "  "), tried.answer, strict=False):
        ok = said.startswith("refused")
        require(ok, f"expected a refusal of a rejection with the reason {reason!r}, got {said!r}")
    return tried


@exercise.case("rejections without a reason are refused, and the sender hears it")
def hears(mine: ModuleType) -> None:
    refused(mine)


@exercise.case("the run goes on after a refusal, and takes the next decision")
def goes_on(mine: ModuleType) -> None:
    require_accepted(refused(mine), f"rejected: {REASON}")


@exercise.case("nothing of the refused ones is in the history")
def no_trace(mine: ModuleType) -> None:
    accepted = refused(mine).events().count("WorkflowExecutionUpdateAccepted")
    count = accepted - (not refused(mine).answer[-1].startswith("refused"))
    require(not count, f"of refused ones expected no update in the history, got {count}")
