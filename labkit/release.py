"""What serves on dev and prod, and the way back, as a notebook calls them."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from temporalio.client import Client

from labkit.ask.serving import rollback as roll_back
from labkit.ask.serving import serving as look

if TYPE_CHECKING:
    from pandas import DataFrame


class Asks(Protocol):
    """What is needed of a lab."""

    def call(self, make: Callable[[Client], Awaitable[Any]]) -> Any: ...


def serving(lab: Asks) -> "DataFrame":
    """The current model of each environment: since when, from which file, and who approved it.

    Returns:
        A row for ``dev`` and one for ``prod``. ``since`` is a time in UTC, ``accuracy`` and ``mae``
        are as the data is described; ``before`` is what :func:`rollback` would put back.
    """
    from pandas import DataFrame, to_datetime

    table = DataFrame([asdict(row) for row in look()]).set_index("environment")
    table["since"] = to_datetime(table["since"].replace("", None), utc=True).dt.floor("s")
    return table


def rollback(lab: Asks, environment: str = "prod", *, by: str, reason: str) -> None:
    """Put the model before back into service, by a workflow of its own. Prints what serves now.

    Args:
        environment: ``dev`` or ``prod``.
        by: who wants it, for the table ``approvals``.
        reason: why, in the same row.

    Raises:
        LabError: there is none before it, or nobody says who or why.
    """

    async def ask(client: Client) -> str:
        return await roll_back(client, environment, by, reason)

    print(f"{environment} serves {lab.call(ask)} again. {by} rolled it back: {reason}")
