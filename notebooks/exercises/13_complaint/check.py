"""A behavioural test: a shell that has grown is older, whatever the figures say."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

from labkit.bench import Exercise, expect, require
from labkit.core.settings import paths
from labkit.datasets import COLUMNS

SIZES = list(COLUMNS[1:-1])

exercise = Exercise(
    task="Write complaint(model, shells): what is wrong with a model, by how it behaves.",
    hints=[
        "Ask the model twice: for the shells, and for a copy in which they have grown.",
        "shells.assign(**{name: shells[name] * 1.2 for name in LENGTHS}) is such a copy, and "
        "weights grow by 1.2 ** 3. The difference of the two predictions is what counts.",
        "older = model.predict(grown) - model.predict(shells); older.mean() and "
        "(older < -1).mean() are what the two promises speak of.",
    ],
    right="The gate compares figures. This asks the model about the world, and needs no labels.",
)


class Model:
    """Answers with a function of the shells."""

    def __init__(self, rings: Callable[[pd.DataFrame], Any]) -> None:
        self.rings = rings

    def predict(self, shells: pd.DataFrame) -> np.ndarray:
        return np.asarray(self.rings(shells), dtype=float)


@exercise.shared
def sample(mine: ModuleType) -> pd.DataFrame:
    return pd.read_csv(paths().example, names=list(COLUMNS))[:1000]


def shells(mine: ModuleType) -> pd.DataFrame:
    """Two hundred that are not yet of full size."""
    return sample(mine).query("length < 0.55").drop(columns="rings")[:200].reset_index(drop=True)


def forest(mine: ModuleType, rings: pd.Series) -> Model:
    trained = RandomForestRegressor(10, random_state=0).fit(sample(mine)[SIZES], rings)
    return Model(lambda table: trained.predict(table[SIZES]))


@exercise.case("a forest that was trained on the sample: no complaint")
def _(mine: ModuleType) -> None:
    expect(mine.complaint(forest(mine, sample(mine).rings), shells(mine)), "")


@exercise.case("a forest that was trained on labels upside down: a complaint")
def _(mine: ModuleType) -> None:
    complains(mine, forest(mine, 30 - sample(mine).rings))


@exercise.case("a model that says 10 to everything: a complaint")
def _(mine: ModuleType) -> None:
    complains(mine, Model(lambda table: np.full(len(table), 10.0)))


@exercise.case("older on average, and far younger for one in seven: a complaint")
def _(mine: ModuleType) -> None:
    def odd(table: pd.DataFrame) -> Any:
        return table.length * np.where(table.index % 7 == 0, -40, 40)

    complains(mine, Model(odd))


@exercise.case("a shell that has grown by a fifth is heavier by 1.2 × 1.2 × 1.2")
def _(mine: ModuleType) -> None:
    asked: list[pd.DataFrame] = []

    def note(table: pd.DataFrame) -> Any:
        asked.append(table.copy())
        return table.length * 20

    before = shells(mine)
    given = before.copy()
    mine.complaint(Model(note), given)
    require(given.equals(before), "your function has changed the shells that it was given")
    require(len(asked) >= 2, "the model was not asked twice")
    grown = max(asked, key=lambda table: table.length.sum())
    small = min(asked, key=lambda table: table.length.sum())
    for name in SIZES:
        factor = 1.2 ** (3 if name.endswith("weight") else 1)
        require(np.allclose(grown[name], small[name] * factor), f"{name} has not grown like that")


def complains(mine: ModuleType, model: Model) -> None:
    said = mine.complaint(model, shells(mine))
    require(isinstance(said, str) and said != "", f"expected a sentence, and {said!r} came")
