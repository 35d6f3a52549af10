"""A payload codec, tried by itself and in a run on the server."""

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from types import ModuleType
from typing import Any
from uuid import uuid4

from cryptography.fernet import Fernet
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes

from labkit.ask.xray import search_database
from labkit.bench import Exercise, Off, Try, expect, require, short, try_out, with_client
from labkit.core.paths import paths

WORD = "VisibleNet"

exercise = Exercise(
    task="Write encode and decode of a payload codec, in about twelve lines with Fernet.",
    hints=[
        "A payload is bytes (data) and a few words about them (metadata). Encrypt all of it: "
        "payload.SerializeToString(), and back with Payload.FromString(…).",
        "decode must tell what is encrypted from what is not. Give your payloads a mark: "
        'metadata={"encoding": b"binary/encrypted"}.',
        "return [Payload(metadata=…, data=self.fernet.encrypt(payload.SerializeToString())) for "
        "payload in payloads]. In decode, a payload without the mark is returned as it is.",
    ],
    right=(
        "The workflow's code was not touched. Clients and workers hold the key, and the server "
        "stores what it cannot read."
    ),
)


def payloads() -> list[Payload]:
    """Two hundred, of each kind that the SDK makes, and with metadata of their own."""
    values: list[Any] = [WORD, WORD.encode(), None, {"name": WORD}, [WORD] * 100]
    made = DataConverter.default.payload_converter.to_payloads(values * 39)
    odd = [Payload(), Payload(data=b"x"), Payload(metadata={"encoding": b"", "name": b"x"})]
    named = Payload(metadata={"encoding": b"json/plain", "name": WORD.encode()}, data=b"1")
    return [*made, *odd, Payload(data=bytes(range(256))), named]


def use(function: Any, given: Sequence[Payload]) -> list[Payload]:
    """What encode or decode makes of payloads.

    Raises:
        Off: it is no list of as many payloads.
    """
    got = list(with_client(lambda _: awaited(function, given)) or [])
    name = function.__name__
    expect(len(got), len(given), f"the number of payloads that {name} returned")
    for one in got:
        require(isinstance(one, Payload), f"expected payloads of {name}, got {short(one)}")
    return got


async def awaited(function: Any, given: Sequence[Payload]) -> Any:
    answer = function(given)
    require(hasattr(answer, "__await__"), f"{function.__name__} is no coroutine: use async def")
    return await answer


@exercise.shared
def encoded(mine: ModuleType) -> tuple[Any, list[Payload]]:
    """A codec, and what it makes of the two hundred."""
    codec = mine.Codec(Fernet.generate_key())
    return codec, use(codec.encode, payloads())


@exercise.case("200 payloads come back as they were")
def come_back(mine: ModuleType) -> None:
    codec, hidden = encoded(mine)
    for before, after in zip(payloads(), use(codec.decode, hidden), strict=True):
        require(
            after == before, f"expected the payload that went in, {said(before)}, got {said(after)}"
        )


def said(payload: Payload) -> str:
    return f"{short(payload.data[:30])} with {short(dict(payload.metadata))}"


@exercise.case("encoded ones show nothing, neither in their data nor in their metadata")
def hides(mine: ModuleType) -> None:
    for payload in encoded(mine)[1]:
        bare = WORD.encode() not in payload.SerializeToString()
        require(bare, f"{WORD} is readable in what encode returned: {said(payload)}")


@exercise.case("another key reads none of them")
def another_key(mine: ModuleType) -> None:
    other = mine.Codec(Fernet.generate_key())
    try:
        got = use(other.decode, encoded(mine)[1][:1])
    except Off:
        raise
    except Exception:
        return
    raise Off(f"expected an error, and decode returned {said(got[0])}")


@exercise.case("plain ones, of runs before the codec, come back as they are")
def plain_ones(mine: ModuleType) -> None:
    plain = payloads()
    got = use(encoded(mine)[0].decode, plain)
    for before, after in zip(plain, got, strict=True):
        require(after == before, f"expected {said(before)}, got {said(after)}")


@activity.defn
def train(name: str) -> str:
    return f"{name} is trained"


@workflow.defn
class Trains:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(
            train, name, summary=name, start_to_close_timeout=timedelta(seconds=5)
        )


@exercise.shared
def run(mine: ModuleType) -> tuple[str, Try]:
    """A word, and a run whose input, result and summary have it."""
    encoded(mine)
    converter = dataclasses.replace(
        DataConverter.default,
        payload_codec=mine.Codec(Fernet.generate_key()),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
    return trained(converter)


def trained(converter: DataConverter) -> tuple[str, Try]:
    word = f"{WORD}-{uuid4().hex}"
    tried = try_out(Trains, word, activities=[train], data_converter=converter, seconds=3)
    expect(tried.ended().result, f"{word} is trained")
    return word, tried


@exercise.case("a run on the lab's server: its result is right, and its history shows nothing")
def in_the_history(mine: ModuleType) -> None:
    word, tried = run(mine)
    require(word not in stored(tried), f"{WORD} is readable in the history")


def stored(tried: Try) -> str:
    """The history as the server stores it, with the bytes of all payloads."""
    assert tried.history
    return str(tried.history.events)


@exercise.case("the database file shows nothing of it, though it shows the word of a plain run")
def in_the_file(mine: ModuleType) -> None:
    word, _ = run(mine)
    plain, tried = trained(DataConverter.default)
    require(plain in stored(tried), "the search of this check finds nothing")
    if not (paths().lab / "temporal.db").exists():
        print("     (Not searched: the server is not the lab's own, and its file is elsewhere.)")
        return
    found = search_database([word, plain])
    require(not found[word], f"{WORD} is readable in the database file")
    require(found[plain], "expected the word of the plain run in the database file")
