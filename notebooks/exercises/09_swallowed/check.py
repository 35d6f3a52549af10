"""An error that is caught and returned, so that no retry ever happens."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import ModuleType
from typing import Any

from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

from labkit.bench import Exercise, Off, Try, expect, require, try_out

ROW = "good-1,0.88"

exercise = Exercise(
    task=(
        "The database was away for a minute, the run completed, and the row is missing. Find out "
        "why it was not tried again, and change that."
    ),
    hints=[
        "The server tries an activity again when it raises. What does log_experiment do when the "
        "connection is refused?",
        "Follow the error: send raises it, and somebody between send and the server catches it.",
        "Let the error through: call send, and return only when it has not raised.",
    ],
    right=(
        "An error in a return value is a success to the server. Catch an error only where you can "
        "do something about it; else let it raise."
    ),
)


@workflow.defn
class Logs:
    @workflow.run
    async def run(self, port: int, row: str, attempts: int) -> str:
        logged: str = await workflow.execute_activity(
            "log_experiment",
            args=[port, row],
            start_to_close_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(timedelta(milliseconds=100), 1, maximum_attempts=attempts),
        )
        return logged


class Database:
    """Takes rows on a port, once it is open."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def open(self) -> None:
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                call, _ = self._socket.accept()
                with call:
                    if text := call.recv(1000).decode():
                        self.rows.append(text)

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextmanager
def database() -> Iterator[Database]:
    found = Database()
    try:
        yield found
    finally:
        found.close()


def log(mine: ModuleType, where: Database, attempts: int = 0, **options: Any) -> Try:
    activities = [mine.log_experiment]
    return try_out(Logs, where.port, ROW, attempts, activities=activities, **options)


async def arrived(where: Database) -> list[str]:
    for _ in range(20):
        if where.rows:
            break
        await asyncio.sleep(0.02)
    return where.rows


@exercise.case("the database is there: the row arrives, once")
def there(mine: ModuleType) -> None:
    with database() as where:
        where.open()
        tried = log(mine, where, meanwhile=lambda client, handle: _rows(where, handle)).ended()
        expect(tried.answer, [ROW])


async def _rows(where: Database, handle: WorkflowHandle) -> list[str]:
    with suppress(WorkflowFailureError):
        await handle.result()
    return await arrived(where)


@exercise.case("it comes back after the second attempt: the row arrives all the same")
def comes_back(mine: ModuleType) -> None:
    with database() as where:

        async def come_back(client: Client, handle: WorkflowHandle) -> list[str]:
            while not await _has_failed(handle):
                await asyncio.sleep(0.01)
            where.open()
            return await _rows(where, handle)

        tried = log(mine, where, seconds=3, meanwhile=come_back)
        if tried.failure or tried.running:
            tried.ended()
        require(tried.answer, f"the run completed, and no row came: it says {tried.result!r}")


async def _has_failed(handle: WorkflowHandle) -> bool:
    seen = await handle.describe()
    pending = seen.raw_description.pending_activities
    return seen.status != 1 or any(activity.attempt > 2 for activity in pending)


@exercise.case("it stays away, two attempts: the run fails, and says why")
def stays_away(mine: ModuleType) -> None:
    with database() as where:
        tried = log(mine, where, attempts=2)
    if tried.running:
        tried.ended()
    failed = isinstance(tried.failure, ActivityError)
    require(failed, f"expected a run that fails, and it {tried}")
    came = len(tried.attempts("log_experiment"))
    if came != 2:
        raise Off(f"expected 2 attempts, got {came}")
