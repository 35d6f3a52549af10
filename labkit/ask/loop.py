"""The event loop on which Temporal is asked, as whoever asks sees it."""

from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from temporalio.client import Client

T = TypeVar("T")


class Loop(Protocol):
    """The lab's event loop, where Temporal is asked. A lab is one."""

    async def ask(self, make: Callable[[Client], Awaitable[T]]) -> T:
        """On the loop: ``await make(client)``, with the client of this moment."""

    def call(self, make: Callable[[Client], Awaitable[T]]) -> T:
        """The same from any other thread, which waits for the answer."""

    def task(self, make: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Start a task on the loop, and do not wait for it."""
