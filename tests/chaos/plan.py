"""What a chaos run does, in which order: all of it follows from the seed."""

from dataclasses import dataclass
from random import Random

from tests.chaos import clock

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
    "worker frozen": 3.0,
    "watcher frozen": 3.0,
    "temporal frozen": 3.0,
    "postgres frozen": 3.0,
    "models frozen": 3.0,
    "disk full": 1.5,
    "servers' disk full": 1.5,
    "servers' disk slow": 3.0,
    "garbage dropped": 0.0,
    "half a CSV, its writer killed": 0.0,
    "overwritten after the drop": 0.0,
    "dropped again as garbage": 0.0,
}
if clock.MAY_SET:
    FAULTS["clock set back an hour"] = 3.0
# In a long storm, what is frozen or slow is so for up to half a minute.
GRAY = ("frozen", "slow")
GRAY_SECONDS = 30.0
GAP_SECONDS = 1.0


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


def make_plan(seed: int, pipelines: int, faults: int, long: bool) -> list[Step]:
    """Drops and faults in random order. The first drop comes first; kinds come equally often."""
    rng = Random(seed)
    kinds = [kind for _ in range(faults // len(FAULTS) + 1) for kind in rng.sample(*_all())]
    what = ["", *rng.sample([*kinds[:faults], *[""] * (pipelines - 1)], faults + pipelines - 1)]
    # A fault every second or so: some hit while others last.
    mean = GAP_SECONDS * faults / len(what)
    return [
        Step(number, rng.uniform(0, 2 * mean), kind, rng.uniform(0, _most(kind, long)))
        for number, kind in enumerate(what)
    ]


def _most(kind: str, long: bool) -> float:
    return GRAY_SECONDS if long and kind.endswith(GRAY) else FAULTS.get(kind, 0.0)


def _all() -> tuple[list[str], int]:
    return list(FAULTS), len(FAULTS)
