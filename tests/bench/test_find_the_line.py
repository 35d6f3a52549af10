"""The three workflows of an exercise break where it says so, and nowhere else."""

from collections.abc import Sequence
from types import ModuleType

import pytest
from temporalio import activity
from temporalio.common import RawValue

from labkit.bench import replay, try_out
from labkit.bench.content import ROOT
from tests.bench.conftest import Answered

ARGUMENTS = {
    "Invoice": "Ada",
    "Parcel": {"north": 1, "south": 2},
    "Survey": ["Ann", "Bob", "Cid", "Dan", "Eve"],
}
# What a right line would be, in place of the one that is not deterministic.
RIGHT = {
    "hash(customer) % 2": "len(customer) % 2",
    "if not workflow.unsafe.is_replaying():": "if True:",
    "sorted(set(people), key=len)": "sorted(set(people))",
}
HASH_SEEDS = (1, 2, 3, 4, 5)


@activity.defn(dynamic=True)
def anything(arguments: Sequence[RawValue]) -> None:
    """Stands for every activity."""


def differences(mine: ModuleType, name: str) -> list[str]:
    """What replays in other processes say of a run that was well."""
    code = getattr(mine, name)
    tried = try_out(code, ARGUMENTS[name], activities=[anything]).ended()
    assert tried.history
    return [said for seed in HASH_SEEDS if (said := replay(code, tried.history, hash_seed=seed))]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_each_breaks_and_is_well_with_a_right_line(name: str, answered: Answered) -> None:
    exercise = answered(ROOT / "10_find_the_line", "stub")
    said = differences(exercise.modules.current(exercise.name), name)
    assert said and all("Nondeterminism error" in words for words in said)
    text = exercise.text("stub")
    for guilty, right in RIGHT.items():
        assert text.count(guilty) == 1
        text = text.replace(guilty, right)
    exercise.modules.keep(exercise.name, text)
    assert differences(exercise.modules.current(exercise.name), name) == []
