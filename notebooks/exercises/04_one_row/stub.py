import uuid

from temporalio import activity

from labkit.bench.database import connect_postgres


@activity.defn
def log_result(accuracy: float) -> None:
    """One row for each run. The table: results (key text PRIMARY KEY, accuracy real)."""
    key = str(uuid.uuid4())
    with connect_postgres() as connection, connection.cursor() as cursor:  # commits at the end
        cursor.execute("INSERT INTO results (key, accuracy) VALUES (%s, %s)", (key, accuracy))
