from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow

from labkit.bench import effect

LIMIT = timedelta(seconds=30)
PATIENCE = timedelta(days=30)


@activity.defn
def drifted(folder: str) -> bool:
    """Compares new.csv with trained_on.csv: what the model on prod was trained on."""
    import pandas as pd
    from scipy.stats import wasserstein_distance

    old, new = (pd.read_csv(Path(folder, name)) for name in ("trained_on.csv", "new.csv"))
    moved = wasserstein_distance(old.length, new.length) / old.length.std()
    return bool(moved > 0.1)  # a bool of NumPy is not JSON


@activity.defn
def train(folder: str) -> None:
    """Trains on new.csv, and writes candidate.joblib."""
    import joblib
    import pandas as pd
    from sklearn.ensemble import RandomForestRegressor

    new = pd.read_csv(Path(folder, "new.csv"))
    forest = RandomForestRegressor(10, random_state=0).fit(new[["length"]], new.rings)
    joblib.dump(forest, Path(folder, "candidate.joblib"))
    effect("trained")


@activity.defn
def complaint(folder: str) -> str:
    """What is wrong with candidate.joblib, by how it behaves; empty when nothing is."""
    import joblib
    import pandas as pd

    short, long = (pd.DataFrame({"length": [length]}) for length in (0.2, 0.6))
    forest = joblib.load(Path(folder, "candidate.joblib"))
    younger = forest.predict(long)[0] < forest.predict(short)[0]
    return "a longer shell is younger" if younger else ""


@activity.defn
def switch(folder: str) -> None:
    """Puts the candidate on prod."""
    import shutil

    shutil.copy(Path(folder, "candidate.joblib"), Path(folder, "prod.joblib"))
    shutil.copy(Path(folder, "new.csv"), Path(folder, "trained_on.csv"))
    effect("switched")


@workflow.defn
class Nightly:
    """Returns "kept", "refused: WHY", "rejected: WHY", "expired" or "on prod"."""

    def __init__(self) -> None:
        self.asking = False
        self.approved: bool | None = None
        self.reason = ""

    @workflow.run
    async def run(self, folder: str) -> str:
        if not await self.do(drifted, folder):
            return "kept"
        await self.do(train, folder)
        if said := await self.do(complaint, folder):
            return f"refused: {said}"
        self.asking = True
        try:
            await workflow.wait_condition(lambda: not self.asking, timeout=PATIENCE)
        except TimeoutError:
            self.asking = False
            return "expired"
        if not self.approved:
            return f"rejected: {self.reason}"
        await self.do(train, folder)
        await self.do(switch, folder)
        return "on prod"

    async def do(self, step: Any, folder: str) -> Any:
        return await workflow.execute_activity(step, folder, start_to_close_timeout=LIMIT)

    @workflow.query
    def asks(self) -> bool:
        return self.asking

    @workflow.update
    def decide(self, approved: bool, reason: str) -> None:
        self.asking, self.approved, self.reason = False, approved, reason

    @decide.validator
    def check(self, approved: bool, reason: str) -> None:
        if not self.asking:
            raise ValueError("nobody is asked at this moment")
        if not approved and not reason.strip():
            raise ValueError("a rejection needs a reason")
