"""The training ledger: which trees were really trained, by which process, outside of Temporal.

One line a step in ``data/models/<model id>/trees.jsonl``, written by the training itself when the
step is trained and saved. Temporal knows which attempts there were; this file knows what they did.
A tree stands here twice only if it was trained again although it had been saved. What a process
had not saved when it was killed, ten trees at most, is not here; it was lost.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "trees.jsonl"


@dataclass(frozen=True)
class Step:
    """The trees ``first`` to ``last``, counted from 1, as process ``pid`` trained them."""

    first: int
    last: int
    pid: int

    def __str__(self) -> str:
        return f"trees {self.first:>2} to {self.last:>3}: process {self.pid}"


def write(folder: Path, first: int, last: int) -> None:
    """Note that this process has trained these trees.

    Raises:
        OSError: the disk does not take it.
    """
    line = json.dumps(asdict(Step(first, last, os.getpid())))
    # The line break comes first, so that a line which a full disk cut short spoils no other.
    with (folder / NAME).open("ab", buffering=0) as file:
        file.write(b"\n" + line.encode())


def read(folder: Path) -> list[Step]:
    """All steps of a model's training, in the order in which they were trained."""
    steps = []
    path = folder / NAME
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with suppress(ValueError, TypeError):
            steps.append(Step(**json.loads(line)))
    return steps
