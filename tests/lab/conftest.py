"""A lab of one's own for each test that asks."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import services
from tests.conftest import copy_data, enter, make_home


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lab of one's own, without any claim of this process on its servers."""
    folder = make_home()
    enter(monkeypatch, folder)
    yield folder
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder)
        services.end_commands()
        services.down()
    shutil.rmtree(folder)


@pytest.fixture
def made(own: Path, initdb_home: Path) -> Path:
    """The same, whose PostgreSQL has its data already."""
    copy_data(initdb_home, own)
    return own
