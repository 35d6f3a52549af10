"""A return in finally throws the error away again.

The check says: two attempts: the run fails, and says why: expected a run that fails
"""

import socket

from temporalio import activity


class Database:
    def __init__(self, port: int) -> None:
        self.port = port

    def send(self, row: str) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as database:
            database.sendall(row.encode())


@activity.defn
def log_experiment(port: int, row: str) -> str:
    status = "error"
    try:
        Database(port).send(row)
        status = "logged"
    finally:
        return status  # noqa: B012
