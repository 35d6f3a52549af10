from pathlib import Path

from temporalio.client import Client

from labkit.bench.database import connect_postgres


async def leaks(client: Client, id: str, word: str, folder: Path) -> set[str]:
    """The stores in which a word of an encrypted run is readable. The client has no key.

    The run wrote rows of the table notes (workflow_id, note), files of any name in the folder,
    and folder/worker.log.
    """
    found = set()
    if word in id:
        found.add("workflow id")
    return found  # "search attributes", "history", "table", "file names", "log"
