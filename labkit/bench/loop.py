"""One event loop in a thread of its own, for what the bench does while a cell waits."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from temporalio.client import Client

from labkit.ask.client import address, connect

T = TypeVar("T")
ALIVE_SECONDS = 0.5
STOP_SECONDS = 3.0

# What an attempt failed with is in the history. A lab that logs to a file still gets it.
logging.getLogger("temporalio").addHandler(logging.NullHandler())


class Loop:
    """The loop and its clients, one for each server address."""

    current: "Loop | None" = None

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="bench", daemon=True).start()
        self._clients: dict[str, Client] = {}

    @classmethod
    def get(cls) -> "Loop":
        cls.current = cls.current or cls()
        return cls.current

    def is_blocked(self) -> bool:
        """Whether somebody's code keeps the loop from going round."""
        turned = threading.Event()
        self.loop.call_soon_threadsafe(turned.set)
        return not turned.wait(ALIVE_SECONDS)

    def leave(self) -> None:
        """Let a blocked loop be; the next call makes another."""
        if Loop.current is self:
            Loop.current = None

    async def client(self) -> Client:
        """A client of the lab's server, on this loop. It writes nothing encrypted.

        Raises:
            LabError: no server answers, with the mend.
        """
        if (where := address()) not in self._clients:
            self._clients[where] = await connect()
        return self._clients[where]


class Call:
    """A coroutine on the bench's loop. What it prints belongs to the cell that called."""

    def __init__(self, make: Callable[[Loop], Coroutine[Any, Any, Any]]) -> None:
        self.on, self._over = Loop.get(), threading.Event()
        self._make = make
        self._task: asyncio.Task[Any] | None = None
        context = contextvars.copy_context()
        self.on.loop.call_soon_threadsafe(self._start, context=context)

    def _start(self) -> None:
        self._task = self.on.loop.create_task(self._make(self.on))
        self._task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[Any]") -> None:
        _ = task.cancelled() or task.exception()  # nobody may be there any more to ask for it
        self._over.set()

    def wait(self, seconds: float) -> bool:
        """Whether it is over, after so many seconds at most."""
        return self._over.wait(seconds)

    def result(self) -> Any:
        """The result of a call that is over, or its error."""
        assert self._task
        return self._task.result()

    def stop(self) -> bool:
        """Cancel it, and wait until it has cleaned up; False when it does not end."""
        if not self._over.is_set():
            self.on.loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())
        return self._over.wait(STOP_SECONDS)


def with_client(function: Callable[[Client], Awaitable[T]], seconds: float = 5) -> T:
    """Await ``function(client)`` on the bench's loop, from a cell or a check.

    Raises:
        TimeoutError: it had not returned in time.
        LabError: the lab's server does not answer.
    """

    async def run(loop: Loop) -> T:
        return await function(await loop.client())

    call = Call(run)
    try:
        if not call.wait(seconds):
            raise TimeoutError(f"it had not returned after {seconds:g} s")
        return call.result()
    finally:
        if not call.stop():
            call.on.leave()
