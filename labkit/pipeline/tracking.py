"""Experiment tracking in PostgreSQL, and the one table of what its errors mean."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import psycopg2
import psycopg2.extensions

from labkit.pipeline.errors import fail_fast
from labkit.pipeline.messages import Experiment
from labkit.settings import LabError, Settings, paths, settings

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 8

# libpq gives no SQLSTATE when a connection fails, so the text of the message decides. The lab's
# server speaks English (lc_messages = C) and the tests hold each line against that server.
# Everything that matches no line is transient: Temporal tries again.
FAIL_FAST_MESSAGES = (
    ("password authentication failed", "InvalidPassword"),
    ("no password supplied", "InvalidPassword"),
    (r'database ".*" does not exist', "InvalidCatalogName"),
)
MENDS = {
    "InvalidPassword": "Mend POSTGRES_USER and POSTGRES_PASSWORD",
    "InvalidCatalogName": "Mend POSTGRES_DB",
}

INSERT = """
INSERT INTO experiments (workflow_id, run_id, model_id, dataset_path, started_at, completed_at,
                         hyperparameters, accuracy, mae, r2_score, samples, seconds)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (workflow_id, run_id) DO NOTHING
"""


@contextmanager
def database(config: Settings | None = None) -> Iterator[psycopg2.extensions.connection]:
    """Open a connection as the settings say at this moment; commit at the end, or roll back.

    Raises:
        ApplicationError: ``InvalidPassword``, ``InvalidCatalogName`` or ``InvalidSettings``,
            not retryable, when no retry would help.
        psycopg2.Error: everything else, which a retry may mend.
    """
    config = config or _settings()
    try:
        connection = psycopg2.connect(
            host=config.postgres_host,
            port=config.postgres_port,
            dbname=config.postgres_db,
            user=config.postgres_user,
            password=config.postgres_password.get_secret_value(),
            connect_timeout=CONNECT_SECONDS,
            options=f"-c statement_timeout={STATEMENT_SECONDS}s",
            application_name="labkit",
        )
    except psycopg2.OperationalError as err:
        raise classify(err) from None
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def classify(err: psycopg2.OperationalError) -> Exception:
    """The error of a failed connection, as Temporal should see it."""
    message = str(err).strip()
    for pattern, kind in FAIL_FAST_MESSAGES:
        if re.search(pattern, message):
            return fail_fast(kind, f"{message} — {MENDS[kind]} in {paths().env}, then run again.")
    return err


def log_experiment(workflow_id: str, run_id: str, experiment: Experiment) -> int:
    """Insert one row, or find that an earlier attempt did.

    Returns:
        The number of rows inserted: 1, or 0 when the row was there.
    """
    model = experiment.model
    with database() as connection, connection.cursor() as cursor:
        cursor.execute(
            INSERT,
            (
                workflow_id,
                run_id,
                model.model_id,
                experiment.dataset_path,
                model.started_at,
                model.completed_at,
                json.dumps(asdict(model.hyperparameters)),
                model.metrics.accuracy,
                model.metrics.mae,
                model.metrics.r2_score,
                model.samples,
                model.seconds,
            ),
        )
        return cursor.rowcount


def experiments(workflow_id: str) -> list[dict[str, Any]]:
    """The rows that a workflow logged, oldest first."""
    with database() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT * FROM experiments WHERE workflow_id = %s ORDER BY id", [workflow_id]
        )
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _settings() -> Settings:
    try:
        return settings()
    except LabError as err:
        raise fail_fast("InvalidSettings", str(err)) from None
