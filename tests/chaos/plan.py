"""What a chaos run does, in which order: all of it follows from the seed."""

from dataclasses import dataclass
from random import Random

# Each fault, and how long it lasts at most before it is mended, in seconds.
FAULTS = {
    "worker killed": 1.0,
    "watcher killed": 1.0,
    "temporal killed": 1.5,
    "temporal restarted": 0.5,
    "postgres stopped fast": 2.0,
    "postgres stopped immediately": 2.0,
    "postgres killed": 1.0,
    "models killed": 1.0,
    "disk full": 1.5,
    "garbage dropped": 0.0,
    "half a CSV, its writer killed": 0.0,
    "overwritten after the drop": 0.0,
    "dropped again as garbage": 0.0,
}
GAP_SECONDS = 1.5


@dataclass(frozen=True)
class Step:
    """A drop (without a fault) or a fault, after a pause; ``lasts`` until it is mended."""

    number: int
    pause: float
    fault: str = ""
    lasts: float = 0.0

    def __str__(self) -> str:
        what = f"{self.fault}, for {self.lasts:.2f} s" if self.fault else "a drop"
        return f"step {self.number}: after {self.pause:.2f} s, {what}"


def make_plan(seed: int, pipelines: int, faults: int) -> list[Step]:
    """Drops and faults in random order. The first drop comes first; kinds come equally often."""
    rng = Random(seed)
    kinds = [kind for _ in range(faults // len(FAULTS) + 1) for kind in rng.sample(*_all())]
    what = ["", *rng.sample([*kinds[:faults], *[""] * (pipelines - 1)], faults + pipelines - 1)]
    # A fault every second or two: some hit while others last.
    mean = GAP_SECONDS * faults / len(what)
    return [
        Step(number, rng.uniform(0, 2 * mean), kind, rng.uniform(0, FAULTS.get(kind, 0)))
        for number, kind in enumerate(what)
    ]


def _all() -> tuple[list[str], int]:
    return list(FAULTS), len(FAULTS)
