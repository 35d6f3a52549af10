"""What touches the world. Each of these may run twice, so each may be repeated without harm."""

import pickle
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from temporalio import activity
from temporalio.exceptions import ApplicationError


@dataclass
class Model:  # its path travels through Temporal; the model itself stays on the disk
    path: str
    score: float


@activity.defn
def train(csv_path: str) -> Model:
    table = np.loadtxt(csv_path, delimiter=",", usecols=range(1, 9), ndmin=2)
    if len(table) < 100:
        raise ApplicationError(f"{csv_path} has {len(table)} rows", type="TooShort")
    seen, unseen = np.array_split(table, 2)
    forest = RandomForestRegressor(n_estimators=0, warm_start=True, random_state=0)
    for trees in range(5, 51, 5):
        forest.set_params(n_estimators=trees).fit(seen[:, :-1], seen[:, -1])
        activity.heartbeat(trees)  # a worker that dies is noticed; a cancellation arrives
    path = Path(csv_path).with_suffix(".model")
    path.write_bytes(pickle.dumps(forest))
    return Model(str(path), forest.score(unseen[:, :-1], unseen[:, -1]))


@activity.defn
def record(model: Model) -> None:
    with sqlite3.connect(Path(model.path).with_name("runs.db")) as database:
        database.execute("CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, score REAL)")
        row = (activity.info().workflow_id, model.score)
        database.execute("INSERT OR IGNORE INTO runs VALUES (?, ?)", row)  # one row, however often


@activity.defn
def deploy(model: Model) -> str:
    part, live = Path(model.path).with_suffix(".part"), Path(model.path).with_name("live")
    part.write_bytes(Path(model.path).read_bytes())
    return str(part.replace(live))  # the old model or the new one, never half of one
