"""The training ledger: which trees were really trained, by which process, outside of Temporal.

One line a step in ``data/models/<model id>/trees.jsonl``, written by the training itself as soon
as the trees are there. Temporal knows which attempts there were; this file knows what they did.
"""

import json
import os
from collections.abc import Sequence
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


def write(folder: Path, first: int, last: int) -> None:
    """Note that this process has trained these trees.

    Raises:
        OSError: it cannot be noted, so it does not count as done.
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


def repeated(steps: Sequence[Step]) -> list[int]:
    """The trees that were trained more than once."""
    trees = [tree for step in steps for tree in range(step.first, step.last + 1)]
    return sorted({tree for tree in trees if trees.count(tree) > 1})
