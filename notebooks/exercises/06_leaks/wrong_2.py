"""It looks into the files, and not at their names.

The check says: expected file names, got none
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
        "history": str((await handle.fetch_history()).events),
        "table": str(rows),
        "file names": "".join(path.read_text() for path in folder.glob("*.csv")),
        "log": (folder / "worker.log").read_text(),
    }
    return {store for store, text in stores.items() if word in text}
