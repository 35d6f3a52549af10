"""Homes for labs under test: each a folder of its own, so that nothing touches the checkout's."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import services
from labkit.settings import REPOSITORY, ensure_env


def make_home() -> Path:
    """A folder that any user may pass through, as a checkout usually is."""
    folder = Path(tempfile.mkdtemp(prefix="labkit-test-"))
    folder.chmod(0o755)
    shutil.copytree(REPOSITORY / "config", folder / "config")
    (folder / "config" / "failure_simulation.json").unlink(missing_ok=True)
    return folder


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty lab: settings and folders, no server."""
    folder = make_home()
    monkeypatch.setenv("LABKIT_HOME", str(folder))
    ensure_env()
    yield folder
    services.down()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def servers_home() -> Iterator[Path]:
    """One lab with all servers, shared by the tests that ask for ``servers``."""
    folder = make_home()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(folder))
        services.join()
        services.start()
        yield folder
        services.leave()
    shutil.rmtree(folder)


@pytest.fixture
def servers(servers_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared lab with Temporal, PostgreSQL and the model servers running."""
    monkeypatch.setenv("LABKIT_HOME", str(servers_home))
    services.start()
    return servers_home
