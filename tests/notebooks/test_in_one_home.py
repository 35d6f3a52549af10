"""The course as a participant takes it: one lesson after another, in one home.

One process runs this file, from top to bottom. A lesson that fails stops none of those after it:
each must do with what the former ones have left. The servers run on between lessons, as they do
under ``make lab``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import services
from tests.conftest import enter
from tests.notebooks.__main__ import LESSONS
from tests.notebooks.nbval import compare, home_of_a_course


@pytest.fixture(scope="module")
def one_home() -> Iterator[Path]:
    with home_of_a_course() as home, pytest.MonkeyPatch.context() as patch:
        enter(patch, home)
        services.join("jupyter")
        yield home


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_committed_outputs_are_what_comes_out(path: Path, one_home: Path) -> None:
    compare(path, one_home)
