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
    """Writes one row into the database that listens on a port."""
    try:
        Database(port).send(row)
    except OSError as err:
        raise RuntimeError(f"could not log {row}: {err}") from err
    return f"logged: {row}"
