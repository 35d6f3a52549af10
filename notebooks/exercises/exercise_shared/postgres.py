"""What checks make in the lab's PostgreSQL, and remove: tables, and a role that is full."""

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions

from labkit.bench.database import SCHEMA, VARIABLE, connect_postgres, parameters
from labkit.core.paths import LabError


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
        os.environ[VARIABLE] = json.dumps(parameters())
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
