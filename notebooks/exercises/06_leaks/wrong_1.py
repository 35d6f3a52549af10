"""JSON shows payloads in base64, so a plain one hides in it.

The check says: expected history, got none
"""

from pathlib import Path

from temporalio.client import Client

from labkit.bench.database import connect_postgres


async def leaks(client: Client, id: str, word: str, folder: Path) -> set[str]:
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
        "history": (await handle.fetch_history()).to_json(),
        "table": str(rows),
        "file names": str([path.name for path in folder.iterdir()]),
        "log": (folder / "worker.log").read_text(),
    }
    return {store for store, text in stores.items() if word in text}
