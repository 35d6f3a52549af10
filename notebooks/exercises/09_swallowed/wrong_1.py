"""A loop of its own, which ends sooner than the outage.

The check says: the row arrives all the same: the run completed, and no row came
"""

import socket

from temporalio import activity


class Database:
    def __init__(self, port: int) -> None:
        self.port = port

    def send(self, row: str) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as database:
            database.sendall(row.encode())

    def save(self, row: str) -> str:
        for _ in range(3):
            try:
                self.send(row)
                return "logged"
            except OSError as err:
                status = f"error: {err}"
        return status


@activity.defn
def log_experiment(port: int, row: str) -> str:
    return Database(port).save(row)
