"""What the dashboard needs of a run and of a lab: it is given both, and imports neither."""

from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Protocol

from labkit.ask import runs
from labkit.views.approval import Decidable


class Shown(Decidable, Protocol):
    """What the page needs of a :class:`labkit.run.Run`."""

    async def picture(self) -> str: ...


class Lab(Protocol):
    """What the page needs of a :class:`labkit.lab.Lab`."""

    encrypted: bool
    relieved_by: str
    scenarios: Any
    at_stop: ExitStack

    def drop(self, name: str, source: bytes | None = None) -> Shown: ...
    def run(self, id: str) -> Shown: ...
    def restart(self, encrypted: bool = False) -> object: ...
    async def rows(self) -> list[runs.Row]: ...
    async def ask(self, make: Callable[[Any], Awaitable[Any]]) -> Any: ...
    def task(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> "Future[Any]": ...
    def aside(self, work: Callable[[], Any]) -> "Future[Any]": ...
