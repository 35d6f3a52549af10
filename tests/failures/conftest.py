"""A lab on the shared servers, with short retry intervals."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from labkit import Lab, services
from labkit.core.envfile import write_env
from labkit.core.lesson import changes
from labkit.core.settings import paths
from labkit.faults import fault_file
from labkit.run import Run
from labkit.services.postgres import _pg_ctl
from tests.conftest import enter
from tests.lab.test_lab import small, stop_lab_alone

SPEED = 20
Drop = Callable[..., Run]
Outage = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="module")
def module_lab(servers_home: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, servers_home)
        write_env(LABKIT_SPEED=str(SPEED))
    yield
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, servers_home)
        stop_lab_alone()
        write_env(LABKIT_SPEED="1")


@pytest.fixture
def mine(module_lab: None, servers: Path) -> Iterator[Lab]:
    """A lab that runs on from test to test; each leaves it as it was."""
    env = paths().env.read_bytes()
    yield Lab.start()
    assert not fault_file().exists()
    assert not changes()
    assert paths().env.read_bytes() == env


@pytest.fixture
def drop(mine: Lab, tmp_path: Path) -> Drop:
    """Drop a thousand rows, which train in half a second and pass the gate."""
    return lambda name, rows=1000: mine.drop(name, small(tmp_path, rows=rows))


@pytest.fixture
def outage(mine: Lab) -> Outage:
    """Really stop PostgreSQL for a block, in the way that is named."""

    @contextmanager
    def stopped(mode: str = "fast") -> Iterator[None]:
        if mode != "fast":
            _pg_ctl("stop", "--wait", f"--mode={mode}")
        services.stop("postgres")
        try:
            yield
        finally:
            services.start("postgres")

    return stopped
