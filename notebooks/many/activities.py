"""Activities for many small files. Each of them may be run twice."""

from collections import defaultdict
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio import activity
from temporalio.exceptions import ApplicationError

# The files that were trained on, in that order, by task queue.
DONE: defaultdict[str, list[str]] = defaultdict(list)
MOST_TREES = 2000


@activity.defn
def new_files(folder: str, night: str) -> list[str]:
    """The files up to a night that have no model yet. A file is named by its night."""
    files = sorted(Path(folder).glob("*.csv"))
    return [str(it) for it in files if it.stem <= night and not model_of(it).exists()]


@activity.defn
def fit(path: str) -> float:
    """Train a model on a file, and keep it beside the file.

    Returns:
        Its mean absolute error, in rings.

    Raises:
        ApplicationError: the file is no table of numbers, which no retry mends.
    """
    from sklearn.ensemble import RandomForestRegressor

    features, rings = read(path)
    forest = RandomForestRegressor(10, random_state=0).fit(features, rings)
    keep(forest, Path(path))
    DONE[activity.info().task_queue].append(Path(path).stem)
    return float(abs(forest.predict(features) - rings).mean())


@activity.defn
def grow(path: str, depth: int, wanted: float) -> int:
    """Add trees of one depth to a forest, until its error on other rows is as small as wanted.

    Returns:
        How many trees that took.
    """
    from sklearn.ensemble import RandomForestRegressor

    features, rings = read(path)
    half = len(rings) // 2
    forest = RandomForestRegressor(5, max_depth=depth, warm_start=True, random_state=0)
    while forest.n_estimators < MOST_TREES:
        activity.heartbeat(forest.n_estimators)
        forest.fit(features[:half], rings[:half])
        if abs(forest.predict(features[half:]) - rings[half:]).mean() <= wanted:
            return int(forest.n_estimators)
        forest.n_estimators += 5
    raise ApplicationError("as many trees as there may be", non_retryable=True)


@activity.defn
def remove_models(folder: str) -> int:
    """Clean up: no model stays beside the files of a folder."""
    models = list(Path(folder).glob("*.joblib"))
    for model in models:
        model.unlink(missing_ok=True)
    return len(models)


@activity.defn
def note(what: str) -> None:
    """Next to nothing, as a call of somebody's service."""
    DONE[activity.info().task_queue].append(what)


def read(path: str) -> tuple[Any, Any]:
    import pandas as pd

    try:
        table = pd.read_csv(path, header=None).iloc[:, 1:].astype(float).to_numpy()
    except ValueError as err:
        raise ApplicationError(
            f"{Path(path).name}: {err}", type="InvalidData", non_retryable=True
        ) from None
    return table[:, :-1], table[:, -1]


def keep(model: Any, path: Path) -> None:
    """Whole or not at all, also when two attempts write at the same time."""
    import joblib

    part = path.with_suffix(f".{uuid4().hex}")
    joblib.dump(model, part)
    part.replace(model_of(path))


def model_of(path: Path) -> Path:
    return path.with_suffix(".joblib")
