"""What the server really stores: each payload of a run as its bytes, beside what they mean."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client
from temporalio.converter import PayloadCodec

from labkit.core.settings import LabError, paths

STORED_SHOWN, DECODED_SHOWN = 64, 440
BLOCK = 1 << 20


@dataclass(frozen=True)
class Item:
    """One stored payload, or one text that is stored beside the payloads.

    ``event`` is empty for what an activity that still runs has stored. ``what`` says where in
    the event it lies: input, result, summary, failure message, and so on.
    """

    event: str
    kind: str
    what: str
    encoding: str
    key: str
    size: int
    stored: str
    decoded: str

    @property
    def beginning(self) -> str:
        """The first stored bytes, on one line."""
        return _short(self.stored, STORED_SHOWN)

    @property
    def meaning(self) -> str:
        """What was decoded, on one line and not without end."""
        return _short(self.decoded, DECODED_SHOWN)


class XRay:
    """The stored payloads of a run: a table in a notebook, the same as text elsewhere."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = list(items)

    def only(self, *words: str) -> "XRay":
        """The items whose event or place in it holds one of these words."""
        return XRay(
            [i for i in self.items if any(word in f"{i.kind} {i.what}".lower() for word in words)]
        )

    def key_ids(self) -> list[str]:
        """The ids of the keys that the items were encrypted with, in the order of first use."""
        return list(dict.fromkeys(item.key for item in self.items if item.key))

    def summary(self) -> str:
        """How many items are stored in which encoding, and under which keys."""
        counts: dict[str, int] = {}
        for item in self.items:
            name = f"{item.encoding} with key {item.key}" if item.key else item.encoding
            counts[name] = counts.get(name, 0) + 1
        return "\n".join(f"{number:>4}  {name}" for name, number in sorted(counts.items()))

    def __repr__(self) -> str:
        lines = []
        for item in self.items:
            key = f", key {item.key}" if item.key else ""
            lines += [
                f"{item.event or 'now'} {item.kind}: {item.what}",
                f"  stored   {item.encoding}{key}, {item.size} bytes: {item.beginning}",
                f"  decoded  {item.meaning}",
            ]
        return "\n".join(lines) or "Nothing is stored here."

    def _repr_html_(self) -> str:
        head = ("event", "what", "encoding", "stored bytes", "decoded")
        rows = [
            (
                f"{item.event or 'now'} {item.kind}".replace("_", " ").lower(),
                item.what,
                f"{item.encoding} {item.key}".strip(),
                f"{item.size}: {item.beginning}",
                item.meaning,
            )
            for item in self.items
        ]
        cell = "style='text-align:left;vertical-align:top;padding-right:1em'"
        bytes_cell = cell.replace("padding", "overflow-wrap:anywhere;min-width:14em;padding")
        styles = (cell, cell, cell, bytes_cell, bytes_cell)
        cells = "".join(
            f"<tr>{''.join(map('<td {}>{}</td>'.format, styles, map(html.escape, row)))}</tr>"
            for row in rows
        )
        heads = "".join(f"<th scope='col' {cell}>{name}</th>" for name in head)
        return (
            f"<table aria-label='Stored payloads'><thead><tr>{heads}</tr></thead>"
            f"<tbody>{cells}</tbody></table>"
        )


class Found(dict[str, bool]):
    """For each text whether it was found; in words, a line each."""

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        words = {True: "found in plain text", False: "not found"}
        return "\n".join(f"{text:<{width}}  {words[found]}" for text, found in self.items())


async def xray(client: Client, id: str) -> XRay:
    """Look at every event of a run, and at the activities that it is at, as they are stored."""
    handle, codec = client.get_workflow_handle(id), client.data_converter.payload_codec
    items: list[Item] = []
    async for event in handle.fetch_history_events():
        kind = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")
        for what, stored in _stored(event):
            items.append(await _item(codec, str(event.event_id), kind, what, stored))
    for pending in (await handle.describe()).raw_description.pending_activities:
        for what, stored in _stored(pending):
            items.append(await _item(codec, "", pending.activity_id, what, stored))
    return XRay(items)


def search_database(plaintexts: Sequence[str]) -> Found:
    """Look for texts in the files of the server's database, as anybody with the disk could.

    Args:
        plaintexts: what to look for, in the bytes of ``.lab/temporal.db`` and its write-ahead log.

    Returns:
        For each text, whether it is there in plain text.

    Raises:
        LabError: there is no database file, because the server is not the lab's own.
    """
    files = [paths().lab / name for name in ("temporal.db", "temporal.db-wal")]
    if not files[0].exists():
        raise LabError("The Temporal server is not the lab's own: its database is elsewhere.")
    found = Found((text, False) for text in plaintexts)
    longest = max((len(text.encode()) for text in plaintexts), default=0)
    for path in (path for path in files if path.exists()):
        with path.open("rb") as file:
            seen = b""
            while block := file.read(BLOCK):
                seen = seen[-longest:] + block  # a text may begin in one block and end in the next
                for text in plaintexts:
                    found[text] = found[text] or text.encode() in seen
    return found


def _stored(message: Message, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Payload | str]]:
    """Each payload below a message, and each text of a failure, with the place where it lies."""
    if isinstance(message, Payload):
        yield " ".join(path), message
        return
    if isinstance(message, Failure):
        for name in ("message", "stack_trace"):
            if text := getattr(message, name):
                yield " ".join((*path, name.replace("_", " "))), text
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        here = path if _is_wrapping(field.name) else (*path, field.name.replace("_", " "))
        if field.message_type.GetOptions().map_entry:
            entries = [((*here, key), value[key]) for key in value]
        else:
            entries = [(here, part) for part in (value if field.is_repeated else [value])]
        for place, part in entries:
            if isinstance(part, Message):
                yield from _stored(part, place)


def _is_wrapping(name: str) -> bool:
    """Fields that only hold others, and say nothing."""
    return name.endswith("_event_attributes") or name in ("payloads", "fields", "indexed_fields")


async def _item(
    codec: PayloadCodec | None, event: str, kind: str, what: str, stored: Payload | str
) -> Item:
    if isinstance(stored, str):
        return Item(event, kind, what, "text", "", len(stored), stored, stored)
    metadata = {name: value.decode(errors="replace") for name, value in stored.metadata.items()}
    text = stored.data.decode(errors="replace")
    try:
        (decoded,) = await codec.decode([stored]) if codec else [stored]
        meaning = decoded.data.decode(errors="replace") or "null"
    except LabError as err:
        meaning = f"cannot be read: {err}"
    key = metadata.get("encryption-key-id", "")
    return Item(
        event, kind, what, metadata.get("encoding", ""), key, len(stored.data), text, meaning
    )


def _short(text: str, length: int) -> str:
    line = re.sub(r"\s+", " ", text)
    return line if len(line) <= length else f"{line[:length]} …"
