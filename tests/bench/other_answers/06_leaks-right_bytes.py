"""Bytes in place of text, and an answer as a list."""

from pathlib import Path

from temporalio.client import Client

from labkit.bench.database import connect_postgres


async def leaks(client: Client, id: str, word: str, folder: Path) -> list[str]:
    """The stores in which a word of an encrypted run is readable. The client has no key.

    The run wrote rows of the table notes (workflow_id, note), files of any name in the folder,
    and folder/worker.log.
    """
    handle = client.get_workflow_handle(id)
    with connect_postgres() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT note FROM notes WHERE workflow_id = %s", (id,))
        rows = cursor.fetchall()
    stores = {
        "workflow id": id,
        "search attributes": str((await handle.describe()).typed_search_attributes),
        "history": b"".join(
            event.SerializeToString() for event in (await handle.fetch_history()).events
        ),
        "table": str(rows),
        "file names": str([path.name for path in folder.iterdir()]),
        "log": (folder / "worker.log").read_bytes(),
    }
    return [
        x for x, text in stores.items() if (word if type(text) is str else word.encode()) in text
    ]
