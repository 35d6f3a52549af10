"""Experiments and approvals in PostgreSQL, and the one table of what its errors mean."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psycopg2
import psycopg2.extensions
from temporalio.exceptions import ApplicationError

from labkit.core.record import Server, State, postgres_port
from labkit.core.settings import Settings, settings, source_of
from labkit.pipeline.errors import fail_fast, wrong_settings_fail_fast
from labkit.pipeline.messages import Approval, Experiment

# Together less than the start-to-close timeouts of log_experiment and record_approval.
CONNECT_SECONDS = 3
STATEMENT_SECONDS = 5


@dataclass(frozen=True)
class Meaning:
    """What an error of PostgreSQL means. Without a ``kind`` it is transient: Temporal retries.

    ``names`` are the settings to mend, which come from several places.
    """

    what: str
    sqlstates: tuple[str, ...] = ()
    pattern: str = "$^"
    kind: str | None = None
    mend: str = ""
    names: tuple[str, ...] = ()

    def advice(self) -> str:
        """How to mend it, with the places that the settings come from at this moment."""
        places: dict[str, list[str]] = {}
        for name in self.names:
            places.setdefault(source_of(name), []).append(name)
        if not places:
            return self.mend
        what = " and ".join(f"{' and '.join(names)} in {it}" for it, names in places.items())
        return f"Mend {what}, then run again."


LOOPBACK = ("127.0.0.1", "localhost", "::1")
NO_HOST = Meaning(
    "wrong host name",
    (),
    "Name or service not known|No address associated|nodename nor servname|No such host",
    "InvalidSettings",
    names=("POSTGRES_HOST",),
)
# libpq gives no SQLSTATE when a connection fails, so there the text of the message decides. The
# lab's server speaks English (lc_messages = C), and the tests hold each line against that server;
# the words of other servers (PAM, LDAP, a pooler, one that speaks German) stand beside them, as in
# PostgreSQL's own translations (src/backend/po/de.po). Otherwise SQLSTATEs decide,
# where two characters stand for their whole class. The first line that fits counts; what fits
# none is transient.
MEANINGS = (
    Meaning(
        "wrong password, or unknown user",
        ("28",),
        r"authentication failed|no password supplied|no pg_hba\.conf entry|pg_hba\.conf rejects"
        '|role ".*" (does not exist|is not permitted)|requires a valid client certificate'
        "|-Authentifizierung für Benutzer .* fehlgeschlagen|kein pg_hba.conf-Eintrag"
        "|Rolle .* existiert nicht",
        "InvalidPassword",
        names=("POSTGRES_USER", "POSTGRES_PASSWORD"),
    ),
    Meaning(
        "wrong database",
        ("3D000",),
        'database ".*" does not exist|no such database|Datenbank .* existiert nicht',
        "InvalidCatalogName",
        names=("POSTGRES_DB",),
    ),
    Meaning(
        "no right to do that",
        ("42501",),
        "permission denied for database|keine Berechtigung für Datenbank",
        "InvalidSettings",
        mend="Ask the database's owner for: GRANT INSERT, SELECT on experiments and approvals.",
    ),
    Meaning(
        "a pooler that takes no options",
        ("08P01",),
        "unsupported startup parameter",
        "InvalidSettings",
        mend="Let the pooler ignore the parameter 'options', or name PostgreSQL itself.",
    ),
    NO_HOST,
    Meaning(
        "value that does not fit its column",
        ("22001", "22003", "22P02", "23502"),
        kind="InvalidData",
        mend="Mend the value, or the column in config/schema.sql.",
    ),
    # Whoever makes the table mends it, and the run goes on.
    Meaning(
        "missing table or column",
        ("42P01", "42703"),
        mend="Make it with: python -m labkit start postgres",
    ),
    Meaning("connection refused", (), "[Cc]onnection refused"),
    Meaning("name server out of reach", (), "Temporary failure in name resolution"),
    Meaning(
        "server starting up",
        ("57P03",),
        "the database system is (starting up|not yet|in rec)|Datenbanksystem startet",
    ),
    Meaning(
        "server shutting down",
        ("57P02",),
        "the database system is shutting down|Datenbanksystem fährt",
    ),
    Meaning("too many connections", ("53300",), "too many c|remaining connection slots"),
    Meaning("connection killed", ("57P01", "08006", "08003"), "server closed the connection"),
    Meaning("statement took too long", ("57014",)),
)

INSERT = """
INSERT INTO experiments (workflow_id, run_id, model_id, dataset_path, started_at, completed_at,
                         hyperparameters, accuracy, mae, r2_score, samples, seconds)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (workflow_id, run_id) DO NOTHING
"""

INSERT_APPROVAL = """
INSERT INTO approvals (workflow_id, run_id, model_id, outcome, decided_by, reason, decided_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (workflow_id, model_id) DO UPDATE
SET run_id = EXCLUDED.run_id, outcome = EXCLUDED.outcome, decided_by = EXCLUDED.decided_by,
    reason = EXCLUDED.reason, decided_at = EXCLUDED.decided_at
WHERE approvals.run_id <> EXCLUDED.run_id
AND (approvals.outcome, approvals.decided_by, approvals.reason)
    <> (EXCLUDED.outcome, EXCLUDED.decided_by, EXCLUDED.reason)
"""

TABLES = ("experiments", "approvals")
SELECT = "SELECT * FROM {} WHERE workflow_id = ANY(%s) ORDER BY id"
SELECT_MODEL = "SELECT * FROM {} WHERE model_id = ANY(%s) ORDER BY id"


@contextmanager
def database(config: Settings | None = None) -> Iterator[psycopg2.extensions.connection]:
    """Open a connection as the settings say at this moment; commit at the end, or roll back.

    Raises:
        ApplicationError: of a kind in :data:`MEANINGS`, not retryable, when no retry would help
            and the server that says so is known to be the one that the settings mean.
        psycopg2.Error: everything else, which a retry may mend.
    """
    config = config or _settings()
    asked = State.read().services.get("postgres")
    try:
        connection = psycopg2.connect(
            host=config.postgres_host,
            port=postgres_port(config),
            dbname=config.postgres_db,
            user=config.postgres_user,
            password=config.postgres_password.get_secret_value(),
            connect_timeout=CONNECT_SECONDS,
            options=f"-c statement_timeout={STATEMENT_SECONDS}s",
            application_name="labkit",
            **_ours_alone(config),
        )
    except psycopg2.Error as err:
        raise as_temporal_sees_it(err, asked, config) from None
    try:
        yield connection
        connection.commit()
    except psycopg2.Error as err:
        raise as_temporal_sees_it(err, asked, config) from None
    finally:
        connection.close()  # what was not committed is rolled back


def _ours_alone(config: Settings) -> dict[str, Any]:
    """To its own server the lab says everything itself.

    What the shell says to libpq (PGSSLMODE, PGSERVICE, PGTZ) is meant for other servers, and
    libpq asks nobody but the process's environment.
    """
    if config.labkit_postgres == "external":
        return {}
    for name in [name for name in os.environ if name.startswith("PG")]:
        os.environ.pop(name, None)
    return {"sslmode": "disable", "gssencmode": "disable"}


def meaning(err: psycopg2.Error) -> Meaning | None:
    """The line of :data:`MEANINGS` that fits an error, or None."""
    fitting = (
        line
        for line in MEANINGS
        if (err.pgcode or "").startswith(line.sqlstates or ("-",))
        or (not err.pgcode and re.search(line.pattern, str(err)))
    )
    return next(fitting, None)


def is_known(asked: Server | None, config: Settings) -> bool:
    """True when what was asked is the server that the settings mean, so that its no is final.

    While the lab's own server starts, moves or is stopped, another lab's may answer at its port.
    What that one says of a password or a table must not end a run.

    Args:
        asked: PostgreSQL on record, from before it was asked.
        config: the settings that it was asked with.
    """
    if config.labkit_postgres == "external":
        return True
    if asked is None:
        return False
    if asked.external:  # in a container, ready since it was put on record
        return asked.address == f"{config.postgres_host}:{config.postgres_port}"
    here = config.postgres_host in LOOPBACK
    return here and bool(asked.process and asked.process.listens(postgres_port(config)))


def as_temporal_sees_it(
    err: psycopg2.Error, asked: Server | None, config: Settings
) -> psycopg2.Error | ApplicationError:
    """An error that no retry can mend, as one that fails the workflow at once; others as is.

    Args:
        err: what psycopg2 raised.
        asked: PostgreSQL on record, from before it was asked.
        config: the settings that it was asked with.
    """
    found = meaning(err)
    if found is None or found.kind is None:
        return err
    # A name that does not resolve is nobody's no. Elsewhere than here it may be an outage, too.
    final = config.labkit_postgres == "embedded" if found is NO_HOST else is_known(asked, config)
    return fail_fast(found.kind, f"{str(err).strip()} — {found.advice()}") if final else err


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


def record_approval(workflow_id: str, run_id: str, approval: Approval) -> int:
    """Insert one row, or find that an earlier attempt did.

    A run that was sent back has a new run id; if it was decided otherwise, that decision stays.

    Returns:
        The number of rows written: 1, or 0 when the row was there.
    """
    said = (approval.model_id, approval.outcome, approval.by, approval.reason)
    with database() as connection, connection.cursor() as cursor:
        cursor.execute(INSERT_APPROVAL, (workflow_id, run_id, *map(_storable, said), approval.at))
        return cursor.rowcount


def rehearse() -> None:
    """Let PostgreSQL plan what a run writes and reads, without doing it: tables, columns, rights.

    Raises:
        ApplicationError: as :func:`database` does; the run would fail, too.
        psycopg2.Error: as :func:`database` does; the run would wait.
    """
    nothing: list[Any] = [None] * max(INSERT.count("%s"), INSERT_APPROVAL.count("%s"))
    with database() as connection, connection.cursor() as cursor:
        for statement in (INSERT, INSERT_APPROVAL, *map(SELECT.format, TABLES)):
            cursor.execute(f"EXPLAIN {statement}", nothing[: statement.count("%s")])


def experiments(*workflow_ids: str) -> list[dict[str, Any]]:
    """The rows that workflows logged, oldest first."""
    return _rows(SELECT.format("experiments"), workflow_ids)


def approvals(workflow_id: str) -> list[dict[str, Any]]:
    """How a workflow's requests for approval ended, oldest first."""
    return _rows(SELECT.format("approvals"), (workflow_id,))


def about_model(model_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A model's rows in ``experiments`` and in ``approvals``, oldest first."""
    experiments, approvals = (_rows(SELECT_MODEL.format(it), (model_id,)) for it in TABLES)
    return experiments, approvals


def _storable(text: str) -> str:
    """What a sender may have put into a name or a reason, and PostgreSQL cannot store, as ?."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode()


def _rows(select: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    with database() as connection, connection.cursor() as cursor:
        cursor.execute(select, [list(ids)])
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _settings() -> Settings:
    with wrong_settings_fail_fast():
        return settings()
