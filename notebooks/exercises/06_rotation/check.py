"""A codec with several keys: what is changed or retired is named, and rotation loses nothing."""

import dataclasses
from datetime import timedelta
from types import ModuleType
from typing import Any

from cryptography.fernet import Fernet
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowHandle
from temporalio.converter import DataConverter

from labkit.bench import Exercise, Off, expect, require, try_out, with_client

OLD, NEW = "k2024", "k2025"
PLAIN = DataConverter.default.payload_converter.to_payload("VisibleNet")

exercise = Exercise(
    task="Let the codec hold several keys, and name the key of a payload that cannot be read.",
    hints=[
        "Whoever decrypts must know which key wrote. The metadata of a payload is there for that, "
        "and an id is no secret.",
        "encode puts the id of the first key into the metadata. decode takes the key of that id.",
        'id = payload.metadata["key-id"].decode(), then self.keys[id].decrypt(payload.data), and '
        'except (KeyError, InvalidToken): raise ValueError(f"… {id} …") from None.',
    ],
    right=(
        "A key may go once no open run was written with it. Until then both stay, the new one "
        "first."
    ),
)


@exercise.shared
def keys(mine: ModuleType) -> dict[str, bytes]:
    return {OLD: Fernet.generate_key(), NEW: Fernet.generate_key()}


def codec(mine: ModuleType, *ids: str) -> Any:
    return mine.Codec({id: keys(mine)[id] for id in ids})


def written(mine: ModuleType, *ids: str) -> Payload:
    return with_client(lambda _: codec(mine, *ids).encode([PLAIN]))[0]


def read(mine: ModuleType, payload: Payload, *ids: str) -> Payload:
    return with_client(lambda _: codec(mine, *ids).decode([payload]))[0]


def require_named(mine: ModuleType, payload: Payload, by: str, *ids: str) -> None:
    """Reading it is an error with the name of the key that wrote it."""
    try:
        got = read(mine, payload, *ids)
    except Exception as err:
        said = f"{type(err).__name__}({str(err)!r})"
        require(by in str(err), f"expected an error that names key {by}, got {said}")
    else:
        raise Off(f"expected an error that names key {by}, and decode returned {got.data[:30]!r}")


@exercise.shared
def old_one(mine: ModuleType) -> Payload:
    """Written before the rotation. Whoever wrote it can read it."""
    payload = written(mine, OLD)
    expect(read(mine, payload, OLD), PLAIN)
    return payload


@exercise.shared
def new_one(mine: ModuleType) -> Payload:
    """Written after it."""
    old_one(mine)
    return written(mine, NEW, OLD)


@exercise.case("one byte of a payload is flipped: an error names its key")
def flipped(mine: ModuleType) -> None:
    payload = Payload()
    payload.CopyFrom(old_one(mine))
    data = bytearray(payload.data)
    data[len(data) // 2] ^= 1
    payload.data = bytes(data)
    require_named(mine, payload, OLD, NEW, OLD)


@exercise.case("after the rotation old and new are readable")
def both(mine: ModuleType) -> None:
    for payload in (old_one(mine), new_one(mine)):
        expect(read(mine, payload, NEW, OLD), PLAIN)


@exercise.case("after the rotation the new key writes")
def new_writes(mine: ModuleType) -> None:
    try:
        got = read(mine, new_one(mine), NEW)
    except Exception:
        raise Off(f"what was written with key {NEW} in front cannot be read with {NEW}") from None
    expect(got, PLAIN)


@exercise.case(
    "the old key is retired: new ones are readable, and the error of an old one names it"
)
def retired(mine: ModuleType) -> None:
    require_named(mine, old_one(mine), OLD, NEW)
    expect(read(mine, written(mine, NEW), NEW), PLAIN)


@workflow.defn
class Waits:
    @workflow.init
    def __init__(self, name: str) -> None:
        self.sent = ""

    @workflow.run
    async def run(self, name: str) -> str:
        await workflow.wait_condition(lambda: bool(self.sent))
        return f"{name} {self.sent}"

    @workflow.signal
    def send(self, word: str) -> None:
        self.sent = word


@exercise.case("a run that began before the rotation ends after it")
def on_the_server(mine: ModuleType) -> None:
    old_one(mine)

    async def begin_and_rotate(client: Client, handle: WorkflowHandle) -> str:
        """The try's client and worker are rotated already. Another client is not."""
        before = Client(**client.config() | {"data_converter": converter(mine, OLD)})
        begun = await before.start_workflow(
            Waits.run,
            "began",
            id=f"{handle.id}-old",
            task_queue=handle.id,
            execution_timeout=timedelta(seconds=10),
        )
        await begun.signal(Waits.send, "before")
        await handle.signal(Waits.send, "it")
        return await client.get_workflow_handle(begun.id).result()

    tried = try_out(
        Waits,
        "try",
        meanwhile=begin_and_rotate,
        data_converter=converter(mine, NEW, OLD),
        seconds=3,
    )
    expect(tried.ended().answer, "began before")


def converter(mine: ModuleType, *ids: str) -> DataConverter:
    return dataclasses.replace(DataConverter.default, payload_codec=codec(mine, *ids))
