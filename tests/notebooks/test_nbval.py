"""A notebook alone, in a home of its own: its committed outputs are what comes out.

The lessons do that one after another in ``test_in_one_home.py``; ``make course`` runs each alone.
"""

from pathlib import Path

import pytest

from tests.notebooks.__main__ import LESSONS, NOTEBOOKS
from tests.notebooks.nbval import compare, home_of_a_course

TOOLS = [path for path in NOTEBOOKS if path not in LESSONS]
ALONE = [*TOOLS, *(pytest.param(path, marks=pytest.mark.long) for path in LESSONS)]


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_committed_outputs_are_what_comes_out(path: Path) -> None:
    with home_of_a_course() as home:
        compare(path, home)
