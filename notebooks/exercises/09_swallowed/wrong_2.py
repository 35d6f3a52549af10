"""It raises, and says that nobody should try again.

The check says: the row arrives all the same: the run failed: ConnectionRefusedError
"""

import socket

from temporalio import activity
from temporalio.exceptions import ApplicationError


class Database:
    def __init__(self, port: int) -> None:
        self.port = port

    def send(self, row: str) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as database:
            database.sendall(row.encode())


@activity.defn
def log_experiment(port: int, row: str) -> str:
    try:
        Database(port).send(row)
    except OSError as err:
        raise ApplicationError(str(err), type="OSError", non_retryable=True) from err
    return "logged"
