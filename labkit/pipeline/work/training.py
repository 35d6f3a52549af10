"""Training: a real random forest, grown in steps that survive a crash."""

import hashlib
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import sklearn
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from labkit.core.files import sha256, write_atomically
from labkit.core.journal import note_trees
from labkit.core.settings import paths
from labkit.pipeline.errors import fail_fast
from labkit.pipeline.messages import Hyperparameters, Model, QualityMetrics
from labkit.pipeline.work.description import Description, description

TREES_A_STEP = 10
PROBES = 3
CHECKPOINT = "checkpoint.joblib"
HYPERPARAMETERS = Hyperparameters()


@dataclass(frozen=True)
class Split:
    """Features (rows, columns) and target (rows,), 80 % to train on and 20 % held out."""

    train: pd.DataFrame
    train_target: pd.Series
    test: pd.DataFrame
    test_target: pd.Series


def split(table: pd.DataFrame) -> Split:
    train, test, train_target, test_target = train_test_split(
        table.iloc[:, :-1],
        table.iloc[:, -1],
        test_size=HYPERPARAMETERS.test_size,
        random_state=HYPERPARAMETERS.random_state,
    )
    return Split(train, train_target, test, test_target)


def train(
    table: pd.DataFrame,
    model_id: str,
    folder: Path,
    on_step: Callable[[int], None] = lambda trees: None,
    described: Description | None = None,
) -> Model:
    """Grow a forest of 100 trees, ten at a time, and save it in ``folder``.

    Each step is saved before the next one begins. A second call with the same folder goes on
    from there, even when nothing is left to train: a step that was saved is never trained again.
    The result is the same forest, because scikit-learn draws each tree's seed from its position.

    Args:
        table: as :func:`labkit.pipeline.work.data.read_table` returns it.
        model_id: names the model.
        folder: where the artifact, the checkpoint and the ledger go; made when it is missing.
        on_step: called with the number of trees that are safe on disk, 0 before the first step.
        described: what the table's columns are; ``config/dataset.yml`` when it is left out.

    Returns:
        The model's path, sha256, figures on the held-out rows, and three held-out rows with the
        predictions that any deployment of it must reproduce.

    Raises:
        ApplicationError: ``InvalidData``: the held-out rows do not vary.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    parts, described = split(table), described or description()
    if parts.test_target.nunique() == 1:
        raise fail_fast(
            "InvalidData",
            f"All {len(parts.test)} rows that were held out to judge {model_id} have "
            f"{parts.test_target.iloc[0]} {described.target}, which judges nothing. "
            f"Add rows with other {described.target}.",
        )
    artifact = _finished(folder) or _finish(folder, grow(parts, folder, on_step, described))
    predicted = joblib.load(artifact).predict(parts.test)
    return Model(
        model_id=model_id,
        artifact_path=paths().name(artifact),
        sha256=sha256(artifact),
        hyperparameters=HYPERPARAMETERS,
        metrics=evaluate(parts.test_target.to_numpy(), predicted, described),
        samples=len(table),
        started_at=started.isoformat(),
        completed_at=datetime.now(UTC).isoformat(),
        seconds=round(time.perf_counter() - clock, 3),
        probe=_as_json(parts.test.head(PROBES)),
        expected=[float(value) for value in predicted[:PROBES]],
        scikit_learn=sklearn.__version__,
        description=described.sha256,
    )


def _as_json(rows: pd.DataFrame) -> list[dict[str, float | str | None]]:
    """Rows as a request has them: what is missing is null there."""
    missing = rows.isna() | (rows == "")
    return rows.astype(object).mask(missing, None).to_dict("records")


def grow(
    parts: Split, folder: Path, on_step: Callable[[int], None], described: Description
) -> Pipeline:
    """Fit the encoder and the forest, step by step, from where an earlier attempt has got to."""
    checkpoint = folder / CHECKPOINT
    pipeline = _load(checkpoint)
    if pipeline is None:
        pipeline = _untrained(described)
    encoder, forest = pipeline["encoder"], pipeline["forest"]
    encoded = encoder.fit_transform(parts.train)
    done = len(getattr(forest, "estimators_", []))
    on_step(done)
    for trees in range(done + TREES_A_STEP, HYPERPARAMETERS.n_estimators + 1, TREES_A_STEP):
        forest.set_params(n_estimators=trees).fit(encoded, parts.train_target)
        write_atomically(checkpoint, to_bytes(pipeline))
        note_trees(folder, trees - TREES_A_STEP + 1, trees)
        on_step(trees)
    return pipeline


def _finish(folder: Path, pipeline: Pipeline) -> Path:
    """Save the model, named by its bytes, so that nobody changes it.

    An attempt that Temporal has given up may still run, and the bytes of a forest that grew on
    from a checkpoint are not the same.
    """
    content = to_bytes(pipeline)
    artifact = folder / f"model-{hashlib.sha256(content).hexdigest()[:12]}.joblib"
    write_atomically(artifact, content)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return artifact


def _finished(folder: Path) -> Path | None:
    """The model of an earlier attempt, whose answer was lost."""
    for artifact in sorted(folder.glob("model-*.joblib")):
        if _load(artifact) is not None:
            return artifact
    return None


def _load(path: Path) -> Pipeline | None:
    """The forest in a file; None when there is none, or none that can be read."""
    try:
        pipeline = joblib.load(path)
    except Exception:  # what unpickling garbage raises is anybody's guess
        return None
    return pipeline if isinstance(pipeline, Pipeline) else None


def _untrained(described: Description) -> Pipeline:
    """A category becomes a column for each of its values; one that is missing is none of them."""
    columns = described.features.items()
    categories = {name: sorted(it.texts) for name, it in columns if it.kind == "category"}
    filled = [n for n, it in columns if it.filled and n not in categories]
    one_hot = OneHotEncoder(
        categories=list(categories.values()), handle_unknown="ignore", sparse_output=False
    )
    encoder = make_column_transformer(
        (one_hot, list(categories)),
        (SimpleImputer(strategy="median", keep_empty_features=True), filled),
        remainder="passthrough",
    )
    forest = RandomForestRegressor(
        max_depth=HYPERPARAMETERS.max_depth,
        random_state=HYPERPARAMETERS.random_state,
        warm_start=True,
    )
    pipeline = Pipeline([("encoder", encoder), ("forest", forest)])
    pipeline.description_ = described.model_dump_json()  # by which a model server asks it
    return pipeline


def evaluate(actual: np.ndarray, predicted: np.ndarray, described: Description) -> QualityMetrics:
    """Judge predictions of shape (rows,): accuracy is the share ``within`` the described bound."""
    return QualityMetrics(
        accuracy=round(float(np.mean(np.abs(actual - predicted) <= described.within)), 4),
        mae=round(float(mean_absolute_error(actual, predicted)), 4),
        r2_score=round(float(r2_score(actual, predicted)), 4),
        within=described.within,
        unit=described.unit,
        limits=described.gate.model_dump() if described.gate else {},
    )


def to_bytes(pipeline: Pipeline) -> bytes:
    """In memory first, so that a file is written whole or not at all.

    By the pickler in C, which holds the interpreter's lock a sixth of the time that joblib's own
    needs; ``joblib.load`` reads both.
    """
    return pickle.dumps(pipeline, pickle.HIGHEST_PROTOCOL)
