"""Tracking against the real server: what its errors say decides what is tried again."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import psycopg2
import pytest
from temporalio.exceptions import ApplicationError

from labkit import services
from labkit.core.envfile import write_env
from labkit.core.record import postgres_port
from labkit.core.settings import paths, read_env, settings
from labkit.faults import changed_env
from labkit.pipeline.messages import Approval, Experiment, Hyperparameters, Model, QualityMetrics
from labkit.pipeline.work.tracking import (
    MEANINGS,
    STATEMENT_SECONDS,
    approvals,
    database,
    experiments,
    log_experiment,
    meaning,
    record_approval,
    rehearse,
)
from labkit.services.postgres import _pg_ctl
from tests.ports import BLOCK

WRONG = "s3cret-and-wrong"
EXPERIMENT = Experiment(
    "data/raw/good.csv",
    Model(
        model_id="good-1",
        artifact_path="data/models/good-1/model.joblib",
        sha256="0" * 64,
        hyperparameters=Hyperparameters(),
        metrics=QualityMetrics(0.87, 1.52, 0.57),
        samples=4177,
        started_at="2025-01-01T10:00:00+00:00",
        completed_at="2025-01-01T10:00:02+00:00",
        seconds=2.0,
        probe=[],
        expected=[],
    ),
)


@contextmanager
def env(**values: str) -> Iterator[None]:
    """Edit ``.env`` as a participant would, and put it back."""
    before = read_env()
    write_env(**values)
    try:
        yield
    finally:
        write_env(**{name: before[name] for name in values})


def failure() -> ApplicationError:
    """The refusal of an attempt; it never holds a password."""
    with pytest.raises(ApplicationError) as caught:
        log_experiment("mlops-1", "run-1", EXPERIMENT)
    assert caught.value.non_retryable
    assert ".env" in caught.value.message
    no_password_in(caught.value)
    return caught.value


def no_password_in(err: BaseException) -> None:
    assert err.__suppress_context__ or err.__context__ is None
    for secret in (WRONG, read_env()["POSTGRES_PASSWORD"]):
        assert not secret or secret not in f"{err!r} {err}"


def test_logging_twice_leaves_one_row(servers: Path) -> None:
    assert log_experiment("mlops-twice", "run-1", EXPERIMENT) == 1
    assert log_experiment("mlops-twice", "run-1", EXPERIMENT) == 0
    (row,) = experiments("mlops-twice")
    assert (row["run_id"], row["model_id"], row["samples"]) == ("run-1", "good-1", 4177)
    assert (row["accuracy"], row["mae"], row["r2_score"]) == (0.87, 1.52, 0.57)
    assert row["hyperparameters"]["n_estimators"] == 100
    assert row["started_at"].isoformat().startswith("2025-01-01")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGSSLMODE", "require"),
        ("PGGSSENCMODE", "require"),
        ("PGCHANNELBINDING", "require"),
        ("PGREQUIREAUTH", "none"),
        ("PGSERVICE", "nowhere"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGOPTIONS", "-c no_such_setting=1"),
        ("PGTZ", "Nowhere/Nowhere"),
        ("PGTARGETSESSIONATTRS", "standby"),
        ("PGCLIENTENCODING", "klingon"),
    ],
)
def test_what_the_shell_says_of_other_servers(
    servers: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    log_experiment(f"mlops-{name}", "run-1", EXPERIMENT)
    monkeypatch.setenv(name, value)
    with pytest.raises(psycopg2.OperationalError):  # so it would have been told
        psycopg2.connect(
            host="127.0.0.1",
            port=settings().postgres_port,
            user=settings().postgres_user,
            dbname=settings().postgres_db,
            password=settings().postgres_password.get_secret_value(),
            connect_timeout=2,
        )


def test_what_the_shell_says_of_an_external_server_is_heard(
    servers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setenv("LABKIT_POSTGRES", "external")
    with pytest.raises(psycopg2.OperationalError, match="does not support SSL"):
        log_experiment("mlops-ssl", "run-1", EXPERIMENT)


@pytest.mark.parametrize("where", ["the environment", "a lab.env block", ".env"])
def test_a_failure_names_the_place_of_the_wrong_value(
    servers: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with ExitStack() as stack:
        if where == "the environment":
            monkeypatch.setenv("POSTGRES_DB", "nowhere")
        elif where == ".env":
            stack.enter_context(env(POSTGRES_DB="nowhere"))
        else:
            stack.enter_context(changed_env(POSTGRES_DB="nowhere"))
        with pytest.raises(ApplicationError) as caught:
            log_experiment("mlops-1", "run-1", EXPERIMENT)
        assert f"Mend POSTGRES_DB in {where}, then run again." in caught.value.message


def test_another_run_of_the_same_workflow_is_another_row(servers: Path) -> None:
    log_experiment("mlops-again", "run-1", EXPERIMENT)
    log_experiment("mlops-again", "run-2", EXPERIMENT)
    assert [row["run_id"] for row in experiments("mlops-again")] == ["run-1", "run-2"]


APPROVAL = Approval("good-1", "approved", "ann", "fits", "2026-01-02T03:04:05+00:00")


def test_recording_an_approval_twice_leaves_one_row(servers: Path) -> None:
    assert record_approval("mlops-twice", "run-1", APPROVAL) == 1
    assert record_approval("mlops-twice", "run-1", replace(APPROVAL, outcome="rejected")) == 0
    (row,) = approvals("mlops-twice")
    assert (row["outcome"], row["decided_by"], row["reason"]) == ("approved", "ann", "fits")
    assert row["decided_at"].astimezone(UTC).isoformat() == APPROVAL.at


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("'; DROP TABLE approvals; --", "'; DROP TABLE approvals; --"),
        ("名前 🐚 %s", "名前 🐚 %s"),
        ("nul\0", "nul?"),
        (f"half a pair {chr(0xD800)}", "half a pair ?"),
        ("x" * 100_000, "x" * 100_000),
    ],
    ids=["sql", "unicode", "nul", "surrogate", "long"],
)
def test_whatever_an_approver_says_is_stored(servers: Path, said: str, stored: str) -> None:
    """A signal may carry anything, and a decision must not be tried for ever."""
    id = f"mlops-{len(said)}-{ascii(said)[:12]}"
    assert record_approval(id, "run-1", replace(APPROVAL, by=said, reason=said)) == 1
    (row,) = approvals(id)
    assert (row["decided_by"], row["reason"]) == (stored, stored)


def test_the_table_appears_in_an_older_lab(servers: Path) -> None:
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE approvals")
    with pytest.raises(psycopg2.Error, match='relation "approvals" does not exist'):
        record_approval("mlops-older", "run-1", APPROVAL)
    services.start("postgres")
    assert record_approval("mlops-older", "run-1", APPROVAL) == 1


def test_a_failed_block_is_rolled_back(servers: Path) -> None:
    with pytest.raises(KeyError), database() as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM experiments")
        raise KeyError
    log_experiment("mlops-rollback", "run-1", EXPERIMENT)
    assert experiments("mlops-rollback")


def test_a_wrong_password(servers: Path) -> None:
    with env(POSTGRES_PASSWORD=WRONG):
        err = failure()
    assert err.type == "InvalidPassword"
    assert "POSTGRES_PASSWORD" in err.message


def test_no_password(servers: Path) -> None:
    with env(POSTGRES_PASSWORD=""):
        assert failure().type == "InvalidPassword"


def test_an_unknown_user_looks_like_a_wrong_password(servers: Path) -> None:
    with env(POSTGRES_USER="nobody"):
        err = failure()
    assert err.type == "InvalidPassword"
    assert "POSTGRES_USER" in err.message


def test_a_wrong_database(servers: Path) -> None:
    with env(POSTGRES_DB="no such db"):
        err = failure()
    assert err.type == "InvalidCatalogName"
    assert "POSTGRES_DB" in err.message


def test_env_is_read_afresh_at_each_attempt(servers: Path) -> None:
    with env(POSTGRES_PASSWORD=WRONG):
        failure()
    assert log_experiment("mlops-mended", "run-1", EXPERIMENT) == 1


@pytest.mark.parametrize("port", ["abc", "0", "65536", "5433.5"])
def test_a_port_that_is_none(servers: Path, port: str) -> None:
    with env(POSTGRES_PORT=port):
        err = failure()
    assert err.type == "InvalidSettings"
    assert "POSTGRES_PORT" in err.message


def test_a_refused_connection_is_tried_again(servers: Path) -> None:
    with env(POSTGRES_PORT=str(BLOCK.next())), pytest.raises(psycopg2.OperationalError) as err:
        log_experiment("mlops-1", "run-1", EXPERIMENT)
    assert "refused" in str(err.value)
    no_password_in(err.value)


def test_an_outage_is_tried_again(servers: Path) -> None:
    services.stop("postgres")
    with pytest.raises(psycopg2.OperationalError) as err:
        log_experiment("mlops-outage", "run-1", EXPERIMENT)
    no_password_in(err.value)
    services.start("postgres")
    assert log_experiment("mlops-outage", "run-1", EXPERIMENT) == 1


def test_a_statement_that_waits_for_ever_is_ended(servers: Path) -> None:
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == (f"{STATEMENT_SECONDS}s",)


def test_the_server_wants_a_password_over_tcp_and_speaks_english(servers: Path) -> None:
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW lc_messages")
        assert cursor.fetchone() == ("C",)
        cursor.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules")
        assert cursor.fetchall() == [("scram-sha-256",)]
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = current_user")
        assert cursor.fetchone()[0].startswith("SCRAM-SHA-256$")
    assert settings().postgres_password.get_secret_value()


def seen() -> tuple[str, str | None]:
    """Log an experiment, which fails; the line of the table that fits."""
    try:
        log_experiment("mlops-refused", "run-1", EXPERIMENT)
    except ApplicationError as err:
        assert err.non_retryable
        no_password_in(err)
        (line,) = [line for line in MEANINGS if line.advice() and line.advice() in err.message]
        assert err.type == line.kind
        return line.what, line.kind
    except psycopg2.Error as err:
        no_password_in(err)
        found = meaning(err)
        return (found.what if found else str(err)), None
    raise AssertionError("it was logged")


@contextmanager
def altered(change: str, back: str) -> Iterator[None]:
    with database() as connection, connection.cursor() as cursor:
        cursor.execute(change)
    try:
        yield
    finally:
        with database() as connection, connection.cursor() as cursor:
            cursor.execute(back)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "two words", "x" * 64])
def test_a_wrong_host_name(servers: Path, host: str) -> None:
    with env(POSTGRES_HOST=host):
        assert seen() == ("wrong host name", "InvalidSettings")


@pytest.mark.parametrize(
    ("says", "what"),
    [
        ('PAM authentication failed for user "lab"', "wrong password, or unknown user"),
        ('Peer authentication failed for user "lab"', "wrong password, or unknown user"),
        ("Passwort-Authentifizierung für Benutzer »lab« fehlgeschlagen", "wrong password, or"),
        ("LDAP-Authentifizierung für Benutzer »lab« fehlgeschlagen", "wrong password, or"),
        ("kein pg_hba.conf-Eintrag für Host »10.0.0.1«, Benutzer »lab«", "wrong password, or"),
        ("Rolle »lab« existiert nicht", "wrong password, or unknown user"),
        ("Datenbank »lab« existiert nicht", "wrong database"),
        ("keine Berechtigung für Datenbank »lab«", "no right to do that"),
        ('no such database: "lab"', "wrong database"),
        ("unsupported startup parameter: options", "a pooler that takes no options"),
        ("das Datenbanksystem startet", "server starting up"),
        ("das Datenbanksystem fährt herunter", "server shutting down"),
    ],
)
def test_the_words_of_other_servers(says: str, what: str) -> None:
    """While connecting there is no SQLSTATE to go by."""
    said = f'connection to server at "db" (10.0.0.2), port 5432 failed: FATAL:  {says}\n'
    found = meaning(psycopg2.OperationalError(said))
    assert found and found.what.startswith(what)


def test_a_missing_table(servers: Path) -> None:
    with altered("ALTER TABLE experiments RENAME TO e", "ALTER TABLE e RENAME TO experiments"):
        assert seen() == ("missing table or column", None), "whoever makes it mends it"


def test_a_missing_column(servers: Path) -> None:
    rename = "ALTER TABLE experiments RENAME {} TO {}"
    with altered(rename.format("mae", "m"), rename.format("m", "mae")):
        assert seen() == ("missing table or column", None), "whoever makes it mends it"


@pytest.mark.parametrize(
    ("change", "back", "says"),
    [
        ("ALTER TABLE approvals RENAME TO a", "ALTER TABLE a RENAME TO approvals", "42P01"),
        (
            "ALTER TABLE approvals RENAME reason TO r",
            "ALTER TABLE approvals RENAME r TO reason",
            "42703",
        ),
        (
            "ALTER TABLE experiments DROP CONSTRAINT experiments_workflow_id_run_id_key",
            "ALTER TABLE experiments ADD UNIQUE (workflow_id, run_id)",
            "42P10",
        ),
    ],
)
def test_a_rehearsal_finds_what_a_run_would_meet(
    servers: Path, change: str, back: str, says: str
) -> None:
    rehearse()
    with altered(change, back), pytest.raises(psycopg2.Error) as caught:
        rehearse()
    assert caught.value.pgcode == says
    rehearse()


def test_a_rehearsal_finds_a_missing_right(servers: Path) -> None:
    """As a role that may read, and not write."""
    make = "CREATE ROLE reader LOGIN PASSWORD 'read'; GRANT SELECT ON experiments TO reader"
    with (
        altered(make, "REVOKE ALL ON experiments FROM reader; DROP ROLE reader"),
        env(POSTGRES_USER="reader", POSTGRES_PASSWORD="read"),
        pytest.raises(ApplicationError, match="permission denied for table") as caught,
    ):
        rehearse()
    assert caught.value.type == "InvalidSettings"


@pytest.mark.parametrize(
    ("column", "small", "usual"),
    [("model_id", "varchar(3)", "text"), ("samples", "smallint", "integer")],
)
def test_a_value_that_does_not_fit(
    servers: Path, column: str, small: str, usual: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE experiments")
    many = replace(EXPERIMENT, model=replace(EXPERIMENT.model, samples=40_000))
    monkeypatch.setitem(globals(), "EXPERIMENT", many)
    change = f"ALTER TABLE experiments ALTER {column} TYPE "
    with altered(change + small, change + usual):
        assert seen() == ("value that does not fit its column", "InvalidData")


def test_too_many_connections(servers: Path) -> None:
    with ExitStack() as stack:
        last = None
        while last is None:
            try:
                stack.enter_context(database())
            except psycopg2.OperationalError as err:
                no_password_in(err)
                last = meaning(err)
            assert len(stack._exit_callbacks) < 500  # type: ignore[attr-defined]
        assert last.what == "too many connections" and last.kind is None
        assert seen() == ("too many connections", None)
    assert log_experiment("mlops-room-again", "run-1", EXPERIMENT) == 1


def test_a_killed_connection(servers: Path) -> None:
    with pytest.raises(psycopg2.Error) as err, database() as connection:
        with database() as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
        time.sleep(0.1)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    no_password_in(err.value)
    found = meaning(err.value)
    assert found and (found.what, found.kind) == ("connection killed", None)


def test_a_statement_that_takes_too_long(servers: Path) -> None:
    with (
        pytest.raises(psycopg2.Error) as err,
        database() as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SET statement_timeout = 20; SELECT pg_sleep(5)")
    found = meaning(err.value)
    assert found and (found.what, found.kind) == ("statement took too long", None)


def test_a_server_that_shuts_down(servers: Path) -> None:
    """In smart mode it waits for a client that stays, and refuses new ones."""
    with database():
        _pg_ctl("stop", "--no-wait", "--mode=smart")
        until = time.monotonic() + 5
        while (found := seen_or_none()) is None and time.monotonic() < until:
            time.sleep(0.01)
    services.stop("postgres")
    services.start("postgres")
    assert found == ("server shutting down", None)


def seen_or_none() -> tuple[str, str | None] | None:
    try:
        return seen()
    except AssertionError:
        return None


def test_a_server_that_recovers_from_a_crash(servers: Path) -> None:
    """It replays its log first: a log of some length, after a stop in immediate mode.

    The lab's own start recovers before anybody can ask, so here the server starts without it.
    """
    port = postgres_port(settings())
    with database() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SET statement_timeout = 0; CREATE TABLE ballast AS "
            "SELECT n, repeat('x', 200) FROM generate_series(1, 400000) AS n"
        )
    _pg_ctl("stop", "--wait", "--mode=immediate")
    options = ("start", "--wait", f"--options=-p {port}")
    log = paths().logs / "postgres-recovers.log"
    starting = threading.Thread(target=_pg_ctl, args=options, kwargs={"log": log})
    starting.start()
    found = set()
    while starting.is_alive():
        found.add(seen_or_none())
    starting.join()
    services.stop("postgres")
    services.start("postgres")
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE ballast")
    assert ("server starting up", None) in found
    assert found <= {("server starting up", None), ("connection refused", None), None}
