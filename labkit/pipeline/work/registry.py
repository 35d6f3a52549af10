"""The registry: the models of an environment, as files. Nothing else stores or finds them.

A deployment has a key: its order (the workflow's time of it) and its model. Beside the artifact
``ID.joblib``, each thing that happens to a deployment is a small file of its own, a note that is
made in one step and never changed:

``ORDER~ID.staged.json``     the model answers at its own address, to be asked for a prediction
``ORDER~ID.deployed.json``   it was found right: making this note is the switch
``ORDER~ID.withdrawn.json``  it was undone, for good

The current model is the one with the highest order that is not withdrawn. No file says "current",
so none can be overwritten: whoever wakes up late makes notes of its own deployment again, which
is older than the current one, or withdrawn, and so changes nothing.

The last four methods are all that a store must be able to do, be it a folder or objects.
"""

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from labkit.core.files import write_atomically

NAME = re.compile(r"([A-Za-z0-9.-]+)~([a-z0-9][a-z0-9-]*)\.(staged|deployed|withdrawn)\.json")


class Key(NamedTuple):
    """One deployment. Keys sort by their order."""

    order: str
    model_id: str


@dataclass(frozen=True)
class Note:
    """What the artifact must be, what made it, and when this was noted (ISO 8601, UTC).

    ``description`` is the sha256 of what the columns of its data were.
    """

    sha256: str
    scikit_learn: str = ""
    since: str = ""
    description: str = ""


class Registry:
    """The models of one environment: ``data/deployments/dev``, say. Needs no server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def deployed(self) -> list[str]:
        """The ids of the deployed models, each once, the current one last."""
        keys = [key for key in self._keys() if self.note(key, "deployed")]
        newest_first = dict.fromkeys(key.model_id for key in reversed(keys))
        return list(newest_first)[::-1]

    def current(self) -> tuple[str, Note] | None:
        """The model that was deployed last, of those that are not withdrawn."""
        for key in reversed(self._keys()):
            if note := self.note(key, "deployed"):
                return key.model_id, note
        return None

    def find(self, model_id: str) -> Note | None:
        """What is known of a model that is deployed, or staged to be asked for a prediction."""
        keys = [key for key in reversed(self._keys()) if key.model_id == model_id]
        notes = (self.note(key, "deployed") or self.note(key, "staged") for key in keys)
        return next(filter(None, notes), None)

    def note(self, key: Key, state: str) -> Note | None:
        """None when there is none; so, too, when a power cut has left an empty one."""
        with suppress(FileNotFoundError, ValueError, TypeError):
            return Note(**json.loads(self._read(_name(key, state))))
        return None

    def make_note(self, key: Key, state: str, note: Note) -> None:
        """Doing it twice is doing it once.

        Raises:
            ValueError: the key cannot be part of a name.
            OSError: the disk does not take it.
        """
        if not NAME.fullmatch(_name(key, state)):
            raise ValueError(f"{key} cannot be the name of a deployment.")
        self._write(_name(key, state), json.dumps(asdict(note)).encode())

    def is_withdrawn(self, key: Key) -> bool:
        return _name(key, "withdrawn") in self._names()

    def unstage(self, key: Key) -> None:
        self._delete(_name(key, "staged"))

    def withdraw(self, model_id: str, order: str = "", since: str = "") -> None:
        """Undo one deployment of a model, or all of them; it need not have happened yet."""
        found = [key for key in self._keys() if key.model_id == model_id]
        for key in [Key(order, model_id)] if order else found:
            self.make_note(key, "withdrawn", Note("", since=since))
            self._delete(_name(key, "deployed"))
            self._delete(_name(key, "staged"))
        if not self.find(model_id):
            self._delete(f"{model_id}.joblib")

    def artifact(self, model_id: str) -> bytes:
        """
        Raises:
            FileNotFoundError: there is none.
        """
        return self._read(f"{model_id}.joblib")

    def has_artifact(self, model_id: str, sha256: str) -> bool:
        with suppress(FileNotFoundError):
            return hashlib.sha256(self.artifact(model_id)).hexdigest() == sha256
        return False

    def put_artifact(self, model_id: str, content: bytes) -> None:
        self._write(f"{model_id}.joblib", content)

    def set_broken_aside(self) -> list[Key]:
        """Rename the notes that a power cut has left empty; returns their deployments."""
        found = []
        for name in self._names():
            match = NAME.fullmatch(name)
            if match and not self.note(Key(match[1], match[2]), match[3]):
                self._write(f"{name}.broken", self._read(name))
                self._delete(name)
                found.append(Key(match[1], match[2]))
        return found

    def _keys(self) -> list[Key]:
        """The deployments that were not withdrawn, in their order."""
        made: set[Key] = set()
        withdrawn: set[Key] = set()
        for match in filter(None, map(NAME.fullmatch, self._names())):
            (withdrawn if match[3] == "withdrawn" else made).add(Key(match[1], match[2]))
        return sorted(made - withdrawn)

    def _names(self) -> list[str]:
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            return [entry.name for entry in entries]
        return []

    def _read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def _write(self, name: str, content: bytes) -> None:
        write_atomically(self.folder / name, content)

    def _delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)


def _name(key: Key, state: str) -> str:
    return f"{key.order}~{key.model_id}.{state}.json"
