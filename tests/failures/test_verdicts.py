"""Only the lab's own PostgreSQL, when it is ready, may say what ends a run for good."""

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from temporalio.exceptions import ApplicationError

from labkit import services
from labkit.core.envfile import write_env
from labkit.core.ports import free_port
from labkit.core.record import State
from labkit.core.settings import paths
from labkit.pipeline.work.tracking import database
from tests.conftest import enter
from tests.unit.test_services import kill


@pytest.fixture
def strangers_port(servers: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of another lab's PostgreSQL, which this lab's settings name too."""
    enter(monkeypatch, servers)
    port = int(services.status()["postgres"]["address"].rsplit(":", 1)[1])
    enter(monkeypatch, home)
    write_env(POSTGRES_PORT=str(port))
    yield port


def ask() -> None:
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM experiments")


def never_started() -> None:
    assert "postgres" not in State.read().services


def stopped() -> None:
    services.start("postgres")
    services.stop("postgres")


def killed() -> None:
    services.start("postgres")
    kill("postgres")


def record_broken() -> None:
    paths().lab.mkdir(exist_ok=True)
    paths().state.write_text("{")


def container_not_up_yet() -> None:
    write_env(LABKIT_POSTGRES="compose")


@pytest.mark.parametrize(
    "own", [never_started, stopped, killed, record_broken, container_not_up_yet]
)
def test_another_labs_server_says_nothing_final(strangers_port: int, own) -> None:  # type: ignore[no-untyped-def]
    """A wrong password, a database or a table that is not there: all of that is theirs.

    A lab that has a record does not even ask there: it knows where its own server was.
    """
    own()
    write_env(POSTGRES_PORT=str(strangers_port))
    with pytest.raises(psycopg2.OperationalError, match=r"authentication failed|refused"):
        ask()
    write_env(LABKIT_POSTGRES="embedded")


def test_an_external_server_is_named_by_the_settings_so_its_no_is_final(
    strangers_port: int,
) -> None:
    write_env(LABKIT_POSTGRES="external")
    with pytest.raises(ApplicationError, match="password authentication failed") as caught:
        ask()
    assert caught.value.type == "InvalidPassword"


def test_no_start_of_the_own_server_says_anything_final(home: Path) -> None:
    """Ask all the time, while it starts, is stopped, killed, moves and starts again."""
    write_env(POSTGRES_PORT=str(free_port(15433)))
    services.prepare()
    final: list[str] = []
    answers: list[int] = []
    over = threading.Event()

    def knock() -> None:
        while not over.is_set():
            try:
                ask()
                answers.append(1)
            except ApplicationError as err:
                final.append(str(err))
            except psycopg2.Error:
                continue

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        for how in ("first", "stop", "kill", "down"):
            if how == "stop":
                services.stop("postgres")
            elif how == "kill":
                kill("postgres")
            elif how == "down":
                services.down()
                write_env(POSTGRES_PORT=str(free_port(16433)))
            before = len(answers)
            services.start("postgres")
            while len(answers) == before and not final:
                over.wait(0.01)
    finally:
        over.set()
        thread.join()
    assert final == []
