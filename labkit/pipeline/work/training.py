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
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from labkit.core.files import sha256, write_atomically
from labkit.core.journal import note_trees
from labkit.core.settings import paths
from labkit.pipeline.errors import fail_fast
from labkit.pipeline.messages import Hyperparameters, Model, QualityMetrics
from labkit.pipeline.work.columns import FEATURES

TREES_A_STEP = 10
TOLERANCE = 3
PROBES = 3
CHECKPOINT = "checkpoint.joblib"
HYPERPARAMETERS = Hyperparameters()


@dataclass(frozen=True)
class Split:
    """Features (rows, 8) and rings (rows,), 80 % to train on and 20 % held out."""

    train: pd.DataFrame
    train_rings: pd.Series
    test: pd.DataFrame
    test_rings: pd.Series


def split(table: pd.DataFrame) -> Split:
    features, rings = table[list(FEATURES)], table["rings"]
    train, test, train_rings, test_rings = train_test_split(
        features,
        rings,
        test_size=HYPERPARAMETERS.test_size,
        random_state=HYPERPARAMETERS.random_state,
    )
    return Split(train, train_rings, test, test_rings)


def train(
    table: pd.DataFrame,
    model_id: str,
    folder: Path,
    on_step: Callable[[int], None] = lambda trees: None,
) -> Model:
    """Grow a forest of 100 trees, ten at a time, and save it in ``folder``.

    Each step is saved before the next one begins. A second call with the same folder goes on
    from there, even when nothing is left to train: a step that was saved is never trained again.
    The result is the same forest, because scikit-learn draws each tree's seed from its position.

    Args:
        table: shape (rows, 9), as :func:`labkit.pipeline.work.data.read_table` returns it.
        model_id: names the model.
        folder: where the artifact, the checkpoint and the ledger go; made when it is missing.
        on_step: called with the number of trees that are safe on disk, 0 before the first step.

    Returns:
        The model's path, sha256, figures on the held-out rows, and three held-out rows with the
        predictions that any deployment of it must reproduce.

    Raises:
        ApplicationError: ``InvalidData``: the held-out rows do not vary.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    parts = split(table)
    if parts.test_rings.nunique() == 1:
        raise fail_fast(
            "InvalidData",
            f"All {len(parts.test)} rows that were held out to judge {model_id} have "
            f"{parts.test_rings.iloc[0]} rings, which judges nothing. Add rows with other rings.",
        )
    artifact = _finished(folder) or _finish(folder, grow(parts, folder, on_step))
    predicted = joblib.load(artifact).predict(parts.test)
    return Model(
        model_id=model_id,
        artifact_path=paths().name(artifact),
        sha256=sha256(artifact),
        hyperparameters=HYPERPARAMETERS,
        metrics=evaluate(parts.test_rings.to_numpy(), predicted),
        samples=len(table),
        started_at=started.isoformat(),
        completed_at=datetime.now(UTC).isoformat(),
        seconds=round(time.perf_counter() - clock, 3),
        probe=parts.test.head(PROBES).to_dict("records"),
        expected=[float(value) for value in predicted[:PROBES]],
        scikit_learn=sklearn.__version__,
    )


def grow(parts: Split, folder: Path, on_step: Callable[[int], None]) -> Pipeline:
    """Fit the encoder and the forest, step by step, from where an earlier attempt has got to."""
    checkpoint = folder / CHECKPOINT
    pipeline = _load(checkpoint)
    if pipeline is None:
        pipeline = _untrained()
    encoder, forest = pipeline["encoder"], pipeline["forest"]
    encoded = encoder.fit_transform(parts.train)
    done = len(getattr(forest, "estimators_", []))
    on_step(done)
    for trees in range(done + TREES_A_STEP, HYPERPARAMETERS.n_estimators + 1, TREES_A_STEP):
        forest.set_params(n_estimators=trees).fit(encoded, parts.train_rings)
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


def _untrained() -> Pipeline:
    encoder = make_column_transformer(
        (OneHotEncoder(categories=[["F", "I", "M"]], sparse_output=False), ["sex"]),
        remainder="passthrough",
    )
    forest = RandomForestRegressor(
        max_depth=HYPERPARAMETERS.max_depth,
        random_state=HYPERPARAMETERS.random_state,
        warm_start=True,
    )
    return Pipeline([("encoder", encoder), ("forest", forest)])


def evaluate(rings: np.ndarray, predicted: np.ndarray) -> QualityMetrics:
    """Judge predictions of shape (rows,): accuracy is the share within ±3 rings."""
    return QualityMetrics(
        accuracy=round(float(np.mean(np.abs(rings - predicted) <= TOLERANCE)), 4),
        mae=round(float(mean_absolute_error(rings, predicted)), 4),
        r2_score=round(float(r2_score(rings, predicted)), 4),
    )


def to_bytes(pipeline: Pipeline) -> bytes:
    """In memory first, so that a file is written whole or not at all.

    By the pickler in C, which holds the interpreter's lock a sixth of the time that joblib's own
    needs; ``joblib.load`` reads both.
    """
    return pickle.dumps(pipeline, pickle.HIGHEST_PROTOCOL)
