"""Homes for labs under test: each a folder of its own, so that nothing touches the checkout's."""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from xdist.scheduler import LoadFileScheduling

from labkit import services
from labkit.core.envfile import ensure_env
from labkit.core.process import Process
from labkit.core.record import State
from labkit.core.settings import REPOSITORY
from tests.ports import BLOCK

# A grammar of addresses that jsonschema, so nbformat, would build for a second; nothing here asks.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

UCI_FILE = os.environ.get("LABKIT_UCI_FILE") or REPOSITORY.parent / "shared/data/abalone.data"

# The tests say what is set; what this machine sets would change them. Only where UCI's file lies is
# not the lab's: the processes that xdist starts inherit it.
OURS = ("POSTGRES_", "TEMPORAL_", "LABKIT_", "JUPYTERHUB_", "CODESPACE", "GITHUB_CODESPACES_")
for name in [name for name in os.environ if name.startswith(OURS)]:
    if name != "LABKIT_UCI_FILE":
        del os.environ[name]
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


def uci_file() -> Path:
    """Where the real UCI file would be."""
    return Path(UCI_FILE)


# Without the file there is nothing to compare with; in CI it is always there.
collect_ignore = (
    [] if uci_file().is_file() or os.environ.get("CI") else ["unit/test_datasets_uci.py"]
)


def pytest_report_header() -> str:
    if collect_ignore:
        return f"THE EXAMPLE IS NOT COMPARED WITH UCI'S FILE: there is none at {uci_file()}"
    return f"the example is compared with UCI's file: {uci_file()}"


# What takes longest side by side comes first, so that no process is left alone at the end.
ORDER = [
    "browser",
    "notebooks",
    "chaos",
    "lab",
    "secrets",
    "failures",
    "workflow",
    "bench",
    "unit",
    "figures",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = REPOSITORY / "tests"
    items.sort(key=lambda item: ORDER.index(item.path.relative_to(tests).parts[0]))


class ByFile(LoadFileScheduling):
    """A file of tests belongs to one process, and so do folders that share servers.

    Tests with a lab of their own run wherever a process is free.
    """

    def _split_scope(self, nodeid: str) -> str:
        for folder in ("tests/browser", "tests/secrets"):
            if nodeid.startswith(folder):
                return folder
        alone = ("test_nbval", "test_twice", "_alone.py", "test_start_after_crash.py")
        return nodeid if any(part in nodeid for part in alone) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def make_home() -> Path:
    """A folder that any user may pass through, as a checkout usually is."""
    folder = Path(tempfile.mkdtemp(prefix="labkit-test-"))
    folder.chmod(0o755)
    shutil.copytree(REPOSITORY / "config", folder / "config")
    (folder / "config" / "failure_simulation.json").unlink(missing_ok=True)
    return folder


def at(home: Path) -> dict[str, str]:
    """The environment of a process that uses the lab in a home, with the ports of that home."""
    return {"LABKIT_HOME": str(home), "LABKIT_PORTS": str(BLOCK.of(home))}


def enter(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Make a home this process's lab."""
    for name, value in at(home).items():
        patch.setenv(name, value)


def assert_no_secret_in_logs(folder: Path) -> None:
    """No log, record or ledger of a lab holds a key, a password or a token of its ``.env``.

    The fixtures below ask it of each lab at its end, so of every log that the suite writes.
    """
    env = folder / ".env"
    text = env.read_text(encoding="utf-8", errors="replace") if env.is_file() else ""
    values = dotenv_values(stream=io.StringIO(text))
    secrets = [
        part.encode()
        for name, value in values.items()
        if name.endswith(("PASSWORD", "KEY", "TOKEN"))
        for part in (value or "").split(",")
        if len(part) >= 16
    ]
    files = [*(folder / ".lab" / "logs").glob("*"), *(folder / ".lab" / "attempts").glob("*")]
    for path in [*files, folder / ".lab" / "state.json"]:
        if path.is_file():
            content = path.read_bytes()
            assert not [True for secret in secrets if secret in content], f"a secret in {path.name}"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty lab: settings and folders, no server."""
    folder = make_home()
    enter(monkeypatch, folder)
    ensure_env()
    yield folder
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder)
        services.down()
    assert_no_secret_in_logs(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def initdb_home() -> Iterator[Path]:
    """A home whose PostgreSQL has its data, and does not run."""
    folder = make_home()
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder)
        services.start("postgres")
        services.down()
    yield folder
    shutil.rmtree(folder)


def copy_data(source: Path, home: Path) -> None:
    """Give a home the data of PostgreSQL, for a test that is not about the first start of all."""
    (home / ".lab").mkdir(mode=0o711, exist_ok=True)
    for name in (".env", ".lab/postgres", ".lab/postgres.password"):
        subprocess.run(["cp", "-a", source / name, home / name], check=True)


@pytest.fixture
def usual_ports(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a range of ports in the environment, as a participant has it."""
    monkeypatch.delenv("LABKIT_PORTS")


@pytest.fixture(scope="session")
def servers_home() -> Iterator[Path]:
    """One lab with all servers, shared by the tests that ask for ``servers``."""
    folder = make_home()
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder)
        try:
            services.join()
            services.start()
            yield folder
        finally:
            services.down()
    assert_no_secret_in_logs(folder)
    shutil.rmtree(folder)


@pytest.fixture
def servers(servers_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared lab with Temporal, PostgreSQL and the model servers running."""
    enter(monkeypatch, servers_home)
    services.start()
    ours = [lab for lab in State.read().labs if lab.process == Process.current()]
    assert len(ours) < 2, "a test before this one has stopped its lab in another home"
    return servers_home


@contextmanager
def as_ordinary_user(file: Path) -> Iterator[None]:
    """Modes mean nothing to root, so be somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    opened = [folder for folder in file.parents if not folder.stat().st_mode & 0o001]
    modes = [folder.stat().st_mode for folder in opened]
    for folder in opened:
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for folder, mode in zip(opened, modes, strict=True):
            folder.chmod(mode)
