"""The example beside the real UCI file: collected only where that file is at hand.

It lies in ``shared/data`` beside the checkout, or where ``LABKIT_UCI_FILE`` says.
``labkit.datasets.fetch_uci()`` downloads it. The head of each test run says whether it was there.
"""

import hashlib

import numpy as np
import pandas as pd
import pytest

from labkit import datasets
from tests.conftest import uci_file
from tests.unit.test_datasets import NUMBERS, SPLITS, forest_figures, maker


@pytest.fixture(scope="module")
def uci() -> pd.DataFrame:
    path = uci_file()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == datasets.UCI_SHA256
    return pd.read_csv(path, names=list(datasets.COLUMNS))


@pytest.fixture(scope="module")
def example() -> pd.DataFrame:
    return maker.make_abalone()


def test_means_and_spreads_are_near_uci(example: pd.DataFrame, uci: pd.DataFrame) -> None:
    ours, theirs = example[NUMBERS], uci[NUMBERS]
    assert (ours.mean() / theirs.mean() - 1).abs().max() <= 0.02
    assert (ours.std() / theirs.std() - 1).abs().max() <= 0.02


def test_ranges_and_quantiles_are_near_uci(example: pd.DataFrame, uci: pd.DataFrame) -> None:
    ours, theirs = example[NUMBERS], uci[NUMBERS]
    spread = theirs.std()
    assert (ours.max() / theirs.max() - 1).abs().max() <= 0.10
    assert ((ours.min() - theirs.min()) / spread).abs().max() <= 0.32
    steps = [0.05, 0.25, 0.5, 0.75, 0.95]
    apart = (ours.quantile(steps) - theirs.quantile(steps)) / spread
    assert apart.drop(columns="rings").abs().max().max() <= 0.16
    assert (apart["rings"] * spread["rings"]).abs().max() <= 1


def test_correlations_are_near_uci(example: pd.DataFrame, uci: pd.DataFrame) -> None:
    apart = example[NUMBERS].corr() - uci[NUMBERS].corr()
    assert apart.abs().max().max() <= 0.03


def test_sexes_are_near_uci(example: pd.DataFrame, uci: pd.DataFrame) -> None:
    shares = [table["sex"].value_counts(normalize=True) for table in (example, uci)]
    assert (shares[0] - shares[1]).abs().max() <= 0.01
    for column in ("length", "whole_weight", "rings"):
        ours, theirs = (table.groupby("sex")[column].mean() for table in (example, uci))
        assert (ours / theirs - 1).abs().max() <= 0.07, column


def test_forest_figures_are_near_uci(example: pd.DataFrame, uci: pd.DataFrame) -> None:
    ours = np.mean([forest_figures(example, split) for split in SPLITS], axis=0)
    theirs = np.mean([forest_figures(uci, split) for split in SPLITS], axis=0)
    apart = np.abs(ours - theirs)
    assert (apart <= [0.02, 0.06, 0.05]).all(), apart


def test_no_row_is_copied_from_uci(example: pd.DataFrame, uci: pd.DataFrame) -> None:
    assert example.merge(uci, on=list(datasets.COLUMNS)).empty
