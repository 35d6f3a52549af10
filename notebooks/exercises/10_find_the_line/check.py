"""Find the line that is not deterministic in three workflows. The sandbox lets all three pass."""

from pathlib import Path
from types import ModuleType

from labkit.bench import Exercise, Off, require

GUILTY = {"Invoice": "hash(customer)", "Parcel": "is_replaying()", "Survey": "sorted(set(people)"}
# Words of lines that look guilty, and why they are not.
INNOCENT = {
    "workflow.now": "workflow.now() is the time of the task in the history",
    "workflow.random": "workflow.random() draws the same numbers in each replay",
    "uuid4": "workflow.uuid4() is drawn from the workflow's own random numbers",
    "gather": "gather() makes its calls in the order of its arguments, and these are a list",
    "for place in": "a dict keeps its order, also when it was a payload",
    "for person in asked": "this line takes what it is given: look where that was made",
    "LIMIT": "which activity it is, and how often it is called, was decided on another line",
}

exercise = Exercise(
    task="Find the line in each of three workflows that is not deterministic.",
    hints=[
        "What may differ in another process, or in a replay? Not what begins with workflow, "
        "unless its name says unsafe.",
        "The hash of a text differs from process to process, and so does the order of a set.",
        "sorted() keeps what is equal by its key in the order in which it came. And what does a "
        "line do that asks whether this is a replay?",
    ],
    right="None of them fails in a run that is never replayed. That is why you keep histories.",
)


@exercise.case("Invoice")
def invoice(mine: ModuleType) -> None:
    judge(mine, "Invoice")


@exercise.case("Parcel")
def parcel(mine: ModuleType) -> None:
    judge(mine, "Parcel")


@exercise.case("Survey")
def survey(mine: ModuleType) -> None:
    judge(mine, "Survey")


def judge(mine: ModuleType, name: str) -> None:
    number = mine.answer.get(name)
    require(isinstance(number, int), f"expected the number of a line, got {number!r}")
    lines = Path(mine.__file__ or "").read_text(encoding="utf-8").splitlines()
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    require(line, f"line {number} is empty, or there is none")
    if GUILTY[name] in line:
        return
    why = next((why for word, why in INNOCENT.items() if word in line), "it is the same each time")
    raise Off(f"line {number} is not it: {line} ({why})")
