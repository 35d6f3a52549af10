import socket

from temporalio import activity


class Database:
    def __init__(self, port: int) -> None:
        self.port = port

    def send(self, row: str) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as database:
            database.sendall(row.encode())

    def save(self, row: str) -> dict[str, str]:
        """Never stops a pipeline because of the log."""
        try:
            self.send(row)
        except OSError as err:
            return {"status": "error", "detail": str(err)}
        return {"status": "logged", "detail": ""}


@activity.defn
def log_experiment(port: int, row: str) -> str:
    """Writes one row into the database that listens on a port."""
    saved = Database(port).save(row)
    return f"{saved['status']}: {row} {saved['detail']}".strip()
