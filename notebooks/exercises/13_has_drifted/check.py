"""Tell a file that has drifted from one that has not, by distance and by number of rows."""

from types import ModuleType

import pandas as pd

from labkit.bench import Exercise, expect
from labkit.core.settings import paths
from labkit.datasets import COLUMNS

exercise = Exercise(
    task="Write has_drifted(old, new): whether the values of a file have moved too far.",
    hints=[
        "For each of the seven columns: wasserstein_distance(old[column], new[column]) is in the "
        "column's own unit. Divide it by the standard deviation of the old values.",
        "One column that has moved is enough, so the largest of the seven counts.",
        "limit = 0.1 if len(new) >= 500 else 0.3, and old[column].std().",
    ],
    right="Few rows scatter more than many, so a limit without a number of rows cries wolf.",
)


@exercise.shared
def sample(mine: ModuleType) -> pd.DataFrame:
    return pd.read_csv(paths().example, names=list(COLUMNS))


def old(mine: ModuleType) -> pd.DataFrame:
    return sample(mine)[:2000]


def grown(table: pd.DataFrame, factor: float) -> pd.DataFrame:
    return table.assign(**{name: table[name] * factor for name in COLUMNS[1:-1]})


@exercise.case("a thousand rows from the same sea: no")
def _(mine: ModuleType) -> None:
    expect(bool(mine.has_drifted(old(mine), sample(mine)[2000:3000])), False)


@exercise.case("a hundred rows from the same sea, which scatter more: no")
def _(mine: ModuleType) -> None:
    expect(bool(mine.has_drifted(old(mine), sample(mine)[3000:3100])), False)


@exercise.case("all sizes a tenth too large: yes")
def _(mine: ModuleType) -> None:
    expect(bool(mine.has_drifted(old(mine), grown(sample(mine)[2000:3000], 1.1))), True)


@exercise.case("two weights in each other's place: yes")
def _(mine: ModuleType) -> None:
    names = {"whole_weight": "shucked_weight", "shucked_weight": "whole_weight"}
    expect(bool(mine.has_drifted(old(mine), sample(mine)[2000:3000].rename(columns=names))), True)


@exercise.case("a single column has moved: yes")
def _(mine: ModuleType) -> None:
    new = sample(mine)[2000:3000]
    expect(bool(mine.has_drifted(old(mine), new.assign(height=new.height * 1.05))), True)


@exercise.case("a hundred infants only: yes")
def _(mine: ModuleType) -> None:
    infants = sample(mine)[2000:].query("sex == 'I'")[:100]
    expect(bool(mine.has_drifted(old(mine), infants)), True)
