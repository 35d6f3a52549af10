"""PostgreSQL for exercises: the lab's own server, and in it a schema of theirs."""

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions

from labkit.core.paths import LabError

SCHEMA = "bench"
# Where the connection's parameters are while a check lasts: worker processes inherit them, and
# need not read the settings, which takes longer than their work.
VARIABLE = "LABKIT_BENCH_POSTGRES"


def connect_postgres(**changed: Any) -> psycopg2.extensions.connection:
    """Connect to the lab's PostgreSQL. ``with`` commits at the end, or rolls back.

    Args:
        changed: options of ``psycopg2.connect`` in place of the lab's, such as ``password``.

    Raises:
        psycopg2.OperationalError: there is no connection.
        LabError: the settings cannot be read.
    """
    known = os.environ.get(VARIABLE)
    return psycopg2.connect(**(json.loads(known) if known else _parameters()) | changed)


def refusal(statement: str = "SELECT 1", **changed: Any) -> psycopg2.Error:
    """The error that a connection with these options makes, or the statement on it.

    Raises:
        LabError: it makes none. (Some servers take any password.)
    """
    try:
        with closing(connect_postgres(**changed)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
    except psycopg2.Error as err:
        return err
    what = ", ".join(changed) or statement
    raise LabError(
        f"This exercise needs an error of PostgreSQL, and with another {what} there was none. "
        f"The lab's own server makes it: LABKIT_POSTGRES=embedded"
    )


@contextmanager
def tables(*statements: str) -> Iterator[psycopg2.extensions.cursor]:
    """Make an empty schema with these tables; afterwards it is gone with all that is in it.

    Yields:
        A cursor that commits each statement at once.

    Raises:
        LabError: PostgreSQL does not answer, or the lab's user may not do this.
    """
    drop = f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"
    with _owner() as cursor:
        os.environ[VARIABLE] = json.dumps(_parameters())
        try:
            for statement in (drop, f"CREATE SCHEMA {SCHEMA}", *statements):
                _execute(cursor, statement)
            yield cursor
        finally:
            os.environ.pop(VARIABLE, None)
            _execute(cursor, drop)


@contextmanager
def full_role(name: str, password: str) -> Iterator[None]:
    """A role that may hold no connection at all, so that the first is one too many.

    Raises:
        LabError: as :func:`tables`.
    """
    drop = f'DROP ROLE IF EXISTS "{name}"'
    with _owner() as cursor:
        _execute(cursor, drop)
        _execute(cursor, f'CREATE ROLE "{name}" LOGIN CONNECTION LIMIT 0 PASSWORD %s', password)
        try:
            yield
        finally:
            _execute(cursor, drop)


def _parameters() -> dict[str, Any]:
    from labkit.core.record import postgres_port
    from labkit.core.settings import settings

    config = settings()
    return {
        "host": config.postgres_host,
        "port": postgres_port(config),
        "dbname": config.postgres_db,
        "user": config.postgres_user,
        "password": config.postgres_password.get_secret_value(),
        "connect_timeout": 3,
        "options": f"-c search_path={SCHEMA} -c statement_timeout=5s -c client_min_messages=error",
        "application_name": "labkit-bench",
    }


@contextmanager
def _owner() -> Iterator[psycopg2.extensions.cursor]:
    try:
        connection = connect_postgres()
    except psycopg2.OperationalError as err:
        raise LabError(
            f"This exercise needs PostgreSQL, and it does not let us in: {_line(err)}. "
            f"Mend: python -m labkit start postgres"
        ) from None
    with closing(connection):
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def _execute(cursor: psycopg2.extensions.cursor, statement: str, *values: Any) -> None:
    try:
        cursor.execute(statement, values or None)
    except psycopg2.errors.InsufficientPrivilege as err:
        raise LabError(
            f"The lab's user of PostgreSQL may not do what this exercise needs: "
            f"{_line(err)}. The lab's own server lets it: LABKIT_POSTGRES=embedded"
        ) from None


def _line(err: psycopg2.Error) -> str:
    """What happened; the lines after the first give advice."""
    return str(err).strip().splitlines()[0]
