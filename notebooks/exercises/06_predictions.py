"""What notebook 06 asks before it looks."""

from typing import Any

from labkit.ask.xray import search_database
from labkit.bench import Prediction

RECIPE = "VisibleNet-1"


def _in_the_file(run: Any) -> tuple[bool, str]:
    there = search_database([RECIPE])[RECIPE]
    return there, "the server stores payloads as they come, and these came as plain JSON."


def _plain_items(run: Any) -> tuple[int, str]:
    number = sum(item.encoding == "json/plain" for item in run.xray().items)
    return number, "search attributes, by which the server lists runs, and the mark of a patch."


def _keys(run: Any) -> tuple[int, str]:
    number = len(run.xray().key_ids())
    return number, "what was written before the rotation still needs the key that wrote it."


found = Prediction("Will the architecture's name be found in the server's file?", _in_the_file)
still_plain = Prediction(
    "How many items of the sealed run are still stored as json/plain?", _plain_items
)
keys = Prediction("How many keys will the history of that run need?", _keys)
