"""Answers of participants, kept as their cells would be."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit import services
from labkit.bench import cells
from labkit.bench.content import load
from labkit.bench.exercise import Exercise
from tests.conftest import enter, make_home

Answered = Callable[[Path, str], Exercise]


@pytest.fixture(scope="session")
def temporal_home() -> Iterator[Path]:
    """One lab with the two servers that exercises need, Temporal and PostgreSQL."""
    folder = make_home()
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder)
        try:
            services.start("temporal", "postgres")
            yield folder
        finally:
            services.down()
    shutil.rmtree(folder)


@pytest.fixture
def temporal(temporal_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(monkeypatch, temporal_home)
    return temporal_home


@pytest.fixture
def modules(temporal: Path) -> Iterator[cells.Mine]:
    """Where the cells of a notebook are kept, in a lab whose Temporal server runs."""
    before, known = list(sys.path), set(sys.modules)
    mine = cells.open_mine("test")
    yield mine
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if cells.is_participants(getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]
    for path in mine.folder.glob("*.py"):
        path.unlink()


@pytest.fixture
def answered(modules: cells.Mine) -> Answered:
    """An exercise of a folder, and one of its texts as the participant's cell."""

    def answer(folder: Path, text: str) -> Exercise:
        exercise = load(folder, modules)
        modules.keep(exercise.name, exercise.text(text))
        return exercise

    return answer
