"""Where a word of an encrypted run can be read all the same. It is planted, and to be found."""

import dataclasses
import inspect
import logging
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from uuid import uuid4

from cryptography.fernet import Fernet
from exercise_shared.postgres import tables
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RetryPolicy, SearchAttributePair, TypedSearchAttributes
from temporalio.converter import DataConverter
from temporalio.exceptions import ActivityError, ApplicationError

from labkit.bench import Exercise, Off, require, short, try_out
from labkit.bench.database import connect_postgres
from labkit.encryption import EncryptionCodec
from labkit.pipeline.listing import PIPELINE_STEP

NOTES = "CREATE TABLE notes (workflow_id text, note text)"

# Where the word is planted, and the store in which it can be read then; none, when in none.
PLACES = {
    "the input": "",
    "the workflow id": "workflow id",
    "a search attribute": "search attributes",
    "an error message": "history",
    "an input written without the key": "history",
    "a row": "table",
    "a file name": "file names",
    "a line of the log": "log",
}

exercise = Exercise(
    task="Write leaks(client, id, word, folder): the stores that give a word away.",
    hints=[
        "A handle has describe() and fetch_history(). A connection of connect_postgres() has the "
        "rows, and folder.iterdir() the files.",
        "to_json() shows payloads in base64, where no word is found. str(history.events) "
        "shows their bytes.",
        "Make a dictionary from each store's name to its text, and keep the names whose text has "
        "the word: str((await handle.describe()).typed_search_attributes), str(rows), …",
    ],
    right=(
        "A codec hides payloads. Ids, search attributes, plain errors, and whatever the activities "
        "write elsewhere, are yours to keep clean."
    ),
)


@activity.defn
def work(place: str, word: str, folder: str) -> None:
    """Has the word in its input, and puts it where it is told."""
    planted = {place: word}
    with note_in_log(Path(folder)) as log:
        log.warning("read %s", planted.get("a line of the log", "a word"))
    name = planted.get("a file name", "word")
    (Path(folder) / f"{name}.csv").write_text("1,2\n")
    with closing(connect_postgres()) as connection, connection, connection.cursor() as cursor:
        row = (activity.info().workflow_id, planted.get("a row", "a word"))
        cursor.execute("INSERT INTO notes VALUES (%s, %s)", row)
    if place == "an error message":
        raise ApplicationError(f"cannot read {word}")


@contextmanager
def note_in_log(folder: Path) -> Iterator[logging.Logger]:
    log = logging.Logger("worker")
    log.addHandler(handler := logging.FileHandler(folder / "worker.log"))
    with closing(handler):
        yield log


@workflow.defn
class Works:
    @workflow.run
    async def run(self, place: str, word: str, folder: str) -> None:
        try:
            await workflow.execute_activity(
                work,
                args=[place, word, folder],
                start_to_close_timeout=timedelta(seconds=5),
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
        except ActivityError:
            workflow.logger.debug("it failed, as it was told")


@workflow.defn
class Waits:
    """The try's own run. The others end before it."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


async def run_with(client: Client, queue: str, place: str, word: str, folder: Path) -> str:
    """Run it to its end, with the word planted there. Returns its id."""
    starter = without_key(client) if place == "an input written without the key" else client
    id = f"{queue}-{word if place == 'the workflow id' else uuid4().hex}"
    step = word if place == "a search attribute" else "none"
    await starter.start_workflow(
        Works.run,
        args=[place, word, str(folder)],
        id=id,
        task_queue=queue,
        search_attributes=TypedSearchAttributes([SearchAttributePair(PIPELINE_STEP, step)]),
        execution_timeout=timedelta(seconds=10),
    )
    await client.get_workflow_handle(id).result()
    return id


def without_key(client: Client) -> Client:
    return Client(**client.config() | {"data_converter": DataConverter.default})


@exercise.shared
def answers(mine: ModuleType) -> dict[str, object]:
    """What is found for each place."""
    require(inspect.iscoroutinefunction(mine.leaks), "leaks is no coroutine function: async def")
    codec = EncryptionCodec([Fernet.generate_key().decode()], encrypt=True)

    async def plant_and_ask(client: Client, handle: WorkflowHandle) -> dict[str, object]:
        found = {}
        for place in PLACES:
            word = f"merger{uuid4().hex[:6]}"
            with tempfile.TemporaryDirectory() as folder:
                id = await run_with(client, handle.id, place, word, Path(folder))
                found[place] = await mine.leaks(without_key(client), id, word, Path(folder))
        await handle.terminate()
        return found

    with tables(NOTES):
        tried = try_out(
            Waits,
            activities=[work],
            others=[Works],
            meanwhile=plant_and_ask,
            data_converter=dataclasses.replace(DataConverter.default, payload_codec=codec),
        )
    if tried.answer is None:
        raise Off(f"leaks had not returned: {tried}")
    return tried.answer


def case(place: str, store: str) -> None:
    about = f"the word in {place}: {store or 'no leak, for it is encrypted'}"

    @exercise.case(about)
    def is_found(mine: ModuleType) -> None:
        answer = answers(mine)[place]
        texts = isinstance(answer, (set, list, tuple)) and all(isinstance(x, str) for x in answer)
        require(texts, f"expected a set of names, got {short(answer)}")
        # The history repeats the id, and the search attributes.
        also = {"history"} if store in ("workflow id", "search attributes") else set()
        wanted = {store} - {""}
        right = wanted <= set(answer) <= wanted | also
        require(right, f"expected {store or 'none'}, got {', '.join(sorted(answer)) or 'none'}")


for place, store in PLACES.items():
    case(place, store)
