"""Tracking against the real server: what its errors say decides what is tried again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
from temporalio.exceptions import ApplicationError

from labkit import services
from labkit.pipeline.messages import Experiment, Hyperparameters, Model, QualityMetrics
from labkit.pipeline.tracking import STATEMENT_SECONDS, database, experiments, log_experiment
from labkit.services.ports import free_port
from labkit.settings import read_env, settings, write_env

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


def test_another_run_of_the_same_workflow_is_another_row(servers: Path) -> None:
    log_experiment("mlops-again", "run-1", EXPERIMENT)
    log_experiment("mlops-again", "run-2", EXPERIMENT)
    assert [row["run_id"] for row in experiments("mlops-again")] == ["run-1", "run-2"]


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
    with env(POSTGRES_PORT=str(free_port(40000))), pytest.raises(psycopg2.OperationalError) as err:
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
