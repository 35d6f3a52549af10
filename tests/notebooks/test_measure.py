"""The course in figures, and what was promised of them. Print them: -s, or ``make course``."""

from pathlib import Path

import nbformat
import pytest

from labkit.bench.content import folders
from tests.notebooks.__main__ import LESSONS
from tests.notebooks.measure import Measured, measure, sources, table

# Of all lines that cells show, those of step tables: in the course, and in a later lesson.
COURSE_SHARE, LESSON_SHARE = 0.15, 0.30
EXERCISES = 3
WRONG = 3


@pytest.fixture(scope="module")
def measured() -> dict[str, Measured]:
    return {path.stem: measure(path) for path in LESSONS}


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_the_course_shows_more_than_tables_of_steps(measured: dict[str, Measured]) -> None:
    print(table(list(measured.values())))
    steps, lines = (sum(getattr(m, what) for m in measured.values()) for what in ("steps", "lines"))
    assert steps / lines < COURSE_SHARE
    later = [m for name, m in measured.items() if name >= "03"]
    assert not [m.name for m in later if m.share >= LESSON_SHARE]


def test_the_minutes_are_what_it_takes(path: Path, measured: dict[str, Measured]) -> None:
    """To read, to do the exercises and to wait: within a third."""
    notebook = measured[path.stem]
    off = abs(notebook.stated - notebook.estimated) / notebook.estimated
    assert off <= 1 / 3, f"{notebook.stated} minutes, where {notebook.estimated:.0f} are likely"


def test_each_lesson_has_three_exercises(path: Path) -> None:
    """Each with a cell to write it in, which holds the stub, and a cell to check it."""
    cells = sources(nbformat.read(path, as_version=4), "code")
    found = folders(path.name[:2])
    assert len(found) >= EXERCISES
    for folder in found:
        assert len(list(folder.glob("wrong_*.py"))) >= WRONG
        name, stub = folder.name[3:], (folder / "stub.py").read_text(encoding="utf-8")
        assert f"%%mine {name}\n{stub}".strip() in [cell.strip() for cell in cells], name
        assert any(f".{name}.check()" in cell for cell in cells), name


def test_each_lesson_has_a_prediction(path: Path) -> None:
    text = "\n".join(sources(nbformat.read(path, as_version=4), "code"))
    assert ".predict(" in text and ".compare(" in text
