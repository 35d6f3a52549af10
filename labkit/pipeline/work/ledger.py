"""The training ledger: which trees were really trained, by which process, outside of Temporal.

One line a step in ``data/models/<model id>/trees.jsonl``, written by the training itself when the
step is trained and saved. Temporal knows which attempts there were; this file knows what they did.
A tree stands here twice only if it was trained again although it had been saved. What a process
had not saved when it was killed, ten trees at most, is not here; it was lost.
"""

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from labkit.core.journal import append_line, read_lines

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
    append_line(folder / NAME, asdict(Step(first, last, os.getpid())))


def read(folder: Path) -> list[Step]:
    """All steps of a model's training, in the order in which they were trained."""
    steps = []
    for line in read_lines(folder / NAME):
        with suppress(TypeError):
            steps.append(Step(**line))
    return steps
