"""The key is the activity, of this run."""

from temporalio import activity

from labkit.bench.database import connect_postgres

INSERT = "INSERT INTO results (key, accuracy) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING"


@activity.defn
def log_result(accuracy: float) -> None:
    """One row for each run. The table: results (key text PRIMARY KEY, accuracy real)."""
    key = "/".join(
        [activity.info().workflow_id, activity.info().workflow_run_id, activity.info().activity_id]
    )
    with connect_postgres() as connection, connection.cursor() as cursor:  # commits at the end
        cursor.execute(INSERT, (key, accuracy))
