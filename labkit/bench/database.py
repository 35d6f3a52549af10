"""PostgreSQL for exercises: the lab's own server, with a schema of theirs in front."""

import json
import os
from contextlib import closing
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
    return psycopg2.connect(**(json.loads(known) if known else parameters()) | changed)


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


def parameters() -> dict[str, Any]:
    """What ``psycopg2.connect`` needs to know of the lab's server."""
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
