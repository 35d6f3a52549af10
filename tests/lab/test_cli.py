"""``python -m labkit``, asked of one lab that is up."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit import codec_server, services
from labkit.core.envfile import write_env
from labkit.core.process import Process
from labkit.core.record import State, changing
from labkit.core.settings import paths
from tests.conftest import enter, make_home
from tests.lab.commands import Command, drop, here, is_gone, labkit, wait_for_run


@pytest.fixture(scope="module")
def up_home() -> Iterator[Path]:
    """One ``up`` for the tests that only ask things of it."""
    folder = make_home()
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder)
        up = Command("up")
        up.wait_for("ready")
        yield folder
        assert up.end() == 0
        assert is_gone(folder)
        assert State.read() == State()
    shutil.rmtree(folder)


@pytest.fixture
def up(up_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(monkeypatch, up_home)
    return up_home


@pytest.fixture(scope="module")
def waiting(up_home: Path) -> str:
    """A run that awaits approval."""
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, up_home)
        return drop("good-waiting.csv")


@pytest.mark.parametrize("command", ["worker", "watch", "codec-server"])
def test_the_end_of_the_terminal_ends_every_command(up: Path, command: str) -> None:
    alone = Command(command)
    alone.wait_for("ready")
    assert alone.end(signal.SIGHUP) == 0


def test_status(up: Path, waiting: str) -> None:
    servers = json.loads(labkit("status", "--json"))["services"]
    assert set(servers) == {"temporal", "ui", "postgres", "dev", "prod"}
    for name, server in servers.items():
        assert server["running"] is True
        assert isinstance(server["pid"], int)
        assert server["address"].startswith(
            "127.0.0.1:" if name in ("temporal", "postgres") else "http://"
        )
    status = json.loads(labkit("status", waiting, "--json"))
    assert status["current_step"] == "awaiting_prod_approval"
    assert "awaiting_prod_approval  waiting" in labkit("status", waiting)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TEMPORAL_API_KEY", "theirs"), ("TEMPORAL_TLS", "true"), ("TEMPORAL_ENV", "nowhere")],
)
def test_what_the_shell_says_of_other_temporal_servers(
    up: Path, waiting: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert waiting in here("status")
    assert "WorkflowExecutionStarted" in codec_server.show(waiting)


def test_decisions(up: Path) -> None:
    approved, rejected = drop("good-approved.csv"), drop("good-rejected.csv")
    assert "is approved" in labkit("approve", approved, "--by", "Ada")
    assert "is rejected" in labkit("reject", rejected, "--by", "Bob", "--reason", "too old")
    wait_for_run("good-approved", "completed")
    wait_for_run("good-rejected", "completed")
    assert "approved by Ada" in labkit("status", approved)
    assert "too old" in labkit("status", rejected)
    assert approved in labkit("approve", approved, code=1)


@pytest.mark.parametrize("command", ["status", "approve", "reject"])
def test_an_unknown_id(up: Path, command: str) -> None:
    assert "no-such-run" in here(command, "no-such-run", code=1)


@pytest.mark.parametrize("service", ["temporal", "postgres", "models"])
def test_stop_and_start_one_server(up: Path, service: str) -> None:
    record = {"models": "dev"}.get(service, service)
    process = State.read().services[record].process
    assert f"{service} is stopped" in labkit("stop", service)
    assert process and not process.alive()
    assert State.read().services[record].process is None
    assert labkit("start", service).startswith(f"{service} runs at ")
    assert services.status()[record]["running"] is True


def test_a_healthy_lab_passes_the_doctor(up: Path) -> None:
    said = labkit("doctor")
    assert "wrong" not in said.replace("0 things are wrong", "")
    assert "PostgreSQL lets the pipeline in" in said


def mode(path: Path) -> None:
    path.chmod(0o644)


def wrong_password(path: Path) -> None:
    write_env(POSTGRES_PASSWORD="wrong")


def dead_user(path: Path) -> None:
    with changing() as state:
        state.users[0].process, mine = Process(4_000_000, 1.0), state.users[0].process
        state.users.append(type(state.users[0])(mine, "up"))


@pytest.mark.parametrize(
    ("break_it", "found"),
    [
        (mode, "open to other users (mode 644)"),
        (wrong_password, "does not let the pipeline in"),
        (dead_user, "on record, but dead: 4000000"),
    ],
)
def test_the_doctor_finds_and_mends(up: Path, break_it: Callable[[Path], None], found: str) -> None:
    break_it(paths().env)
    wrong = here("doctor", code=1)
    [line] = [line for line in wrong.splitlines() if line.startswith("wrong")]
    assert found in line
    mended = here("doctor", "--fix")
    assert f"mended  {line.removeprefix('wrong').strip()}" in mended
    here("doctor")
