"""Training survives a crash, and its figures are real."""

import copy
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import ActivityEnvironment

from labkit.core.files import sha256
from labkit.core.journal import TREES, note_trees, trees_of
from labkit.core.settings import paths
from labkit.pipeline.activities import ALL, assess_model_quality, preprocess_data, train_model
from labkit.pipeline.messages import (
    Dataset,
    Model,
    PreprocessInput,
    QualityMetrics,
    QualityReport,
    TrainInput,
)
from labkit.pipeline.work import training
from labkit.pipeline.work.data import misalign_labels, read_table
from labkit.pipeline.work.quality import gate
from labkit.pipeline.work.training import train

EXAMPLE = paths().example


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return read_table(EXAMPLE, EXAMPLE.name)


@pytest.fixture(scope="module")
def small(table: pd.DataFrame) -> pd.DataFrame:
    return table.head(300)


class Crash(BaseException):
    """What a killed process looks like to the code that it stops in."""


def crash_at(step: int) -> Callable[[int], None]:
    def on_step(trees: int) -> None:
        if trees == step:
            raise Crash

    return on_step


def test_steps_are_reported_from_0_to_100(small: pd.DataFrame, tmp_path: Path) -> None:
    steps: list[int] = []
    train(small, "model-1", tmp_path, steps.append)
    assert steps == [*range(0, 101, 10)]


@pytest.mark.parametrize("crashed_at", [10, 50, 100])
def test_a_resumed_training_gives_the_same_forest(
    small: pd.DataFrame, tmp_path: Path, crashed_at: int
) -> None:
    whole = train(small, "model-1", tmp_path / "whole")
    with pytest.raises(Crash):
        train(small, "model-1", tmp_path / "resumed", crash_at(crashed_at))
    steps: list[int] = []
    resumed = train(small, "model-1", tmp_path / "resumed", steps.append)

    assert steps[0] == crashed_at, "it trained again what was safe"
    trained = trees_of(tmp_path / "resumed")
    assert [step.last for step in trained] == [*range(10, 101, 10)]
    assert resumed.metrics == whole.metrics
    assert resumed.expected == whole.expected
    features = training.split(small).test
    assert resumed.sha256 != whole.sha256, "so neither may take the other's name"
    forests = [joblib.load(paths().find(model.artifact_path)) for model in (whole, resumed)]
    np.testing.assert_array_equal(*(forest.predict(features) for forest in forests))


def test_a_lost_answer_trains_nothing_again(small: pd.DataFrame, tmp_path: Path) -> None:
    first = train(small, "model-1", tmp_path)
    again = train(small, "model-1", tmp_path)
    assert (again.sha256, again.expected) == (first.sha256, first.expected)
    assert [step.last for step in trees_of(tmp_path)] == [*range(10, 101, 10)]


@pytest.mark.parametrize("frozen_at", [0, 50, 100])
def test_an_attempt_that_wakes_up_late_harms_nothing(
    small: pd.DataFrame, tmp_path: Path, frozen_at: int
) -> None:
    """While it was frozen, another one has trained, answered, and taken the checkpoint away."""
    answers: list[Model] = []

    def on_step(trees: int) -> None:
        if trees == frozen_at and not answers:
            answers.append(train(small, "model-1", tmp_path))

    late = train(small, "model-1", tmp_path, on_step)
    [model] = answers
    assert sha256(paths().find(model.artifact_path)) == model.sha256
    for other in (late, train(small, "model-1", tmp_path)):
        assert (other.metrics, other.expected) == (model.metrics, model.expected)


def test_the_ledger_bears_lines_that_a_full_disk_cut_short(tmp_path: Path) -> None:
    assert trees_of(tmp_path) == []
    note_trees(tmp_path, 1, 10)
    path = tmp_path / TREES
    path.write_bytes(path.read_bytes() + b'\n{"first": 11, "la')
    note_trees(tmp_path, 11, 20)
    path.write_bytes(path.read_bytes() + b'\n{"first": 21}\n[]')
    assert [(step.first, step.last, step.pid) for step in trees_of(tmp_path)] == [
        *((1, 10, os.getpid()), (11, 20, os.getpid())),
    ]


def test_only_the_artifact_and_the_ledger_are_left(small: pd.DataFrame, tmp_path: Path) -> None:
    model = train(small, "model-1", tmp_path)
    names = {f"model-{model.sha256[:12]}.joblib", "trees.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert model.sha256 == sha256(paths().find(model.artifact_path))


@pytest.mark.parametrize("written", [b"", b"garbage", b"\x80\x04\x95", "half", "another"])
def test_a_checkpoint_that_cannot_be_used_means_starting_anew(
    small: pd.DataFrame, tmp_path: Path, written: bytes | str
) -> None:
    checkpoint = tmp_path / "checkpoint.joblib"
    with pytest.raises(Crash):
        train(small, "model-1", tmp_path, crash_at(20))
    if written == "another":
        joblib.dump({"not": "a pipeline"}, checkpoint)
    else:
        half = checkpoint.read_bytes()[: checkpoint.stat().st_size // 2]
        checkpoint.write_bytes(written if isinstance(written, bytes) else half)

    steps: list[int] = []
    train(small, "model-1", tmp_path, steps.append)
    assert steps == [*range(0, 101, 10)]
    assert not checkpoint.exists()


def test_an_interrupted_save_leaves_what_was_there(
    small: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up, or a signal comes, while the artifact is written."""
    model = train(small, "model-1", tmp_path)
    artifact = paths().find(model.artifact_path)

    def half(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", half)
    with pytest.raises(OSError, match="No space left"):
        train(small, "model-2", tmp_path / "new")
    assert [*(tmp_path / "new").iterdir()] == []
    assert sha256(artifact) == model.sha256


def test_the_probe_is_held_out_rows_with_the_models_own_predictions(
    small: pd.DataFrame, tmp_path: Path
) -> None:
    model = train(small, "model-1", tmp_path)
    forest = joblib.load(paths().find(model.artifact_path))
    assert len(model.probe) == 3
    assert forest.predict(pd.DataFrame(model.probe)).tolist() == model.expected
    assert model.samples == 300


def judge(model: Model) -> QualityReport:
    return judged(model.metrics)


def test_the_example_passes_the_gate_and_asks_for_approval(
    home: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    model = train(table, "good-1", tmp_path)
    assert model.metrics.accuracy > 0.85
    assert judge(model) == QualityReport(True, True, [])


def test_the_example_with_misaligned_labels_fails_the_gate(
    home: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    model = train(misalign_labels(table), "bad-1", tmp_path)
    report = judge(model)
    assert not report.passed
    assert not report.asks_for_approval
    assert any(reason.startswith("accuracy 0.7") for reason in report.reasons)
    assert any(reason.startswith("r2_score 0.") for reason in report.reasons)


@pytest.mark.parametrize("content", [None, "accuracy: [", "accuracy: 0.8", "accuracy: high"])
def test_a_gate_that_cannot_be_used_is_named(
    home: Path, small: pd.DataFrame, tmp_path: Path, content: str | None
) -> None:
    gate = home / "config" / "quality_gate.yml"
    gate.unlink() if content is None else gate.write_text(content)
    with pytest.raises(ApplicationError) as caught:
        judge(train(small, "good-1", tmp_path))
    assert caught.value.type == "InvalidSettings"
    assert caught.value.non_retryable
    assert str(gate) in caught.value.message


def test_the_heartbeats_of_the_activity_carry_progress(home: Path, small: pd.DataFrame) -> None:
    processed = home / "data" / "processed" / "good-1.csv"
    processed.parent.mkdir(parents=True)
    small.to_csv(processed, index=False)
    environment, beats = ActivityEnvironment(), []
    environment.on_heartbeat = lambda *details: beats.append(copy.deepcopy(details))

    dataset = Dataset("data/processed/good-1.csv", len(small), False)
    model = environment.run(train_model, TrainInput("good-1", dataset))

    steps = [beat for beat, last in zip(beats, [None, *beats], strict=False) if beat != last]
    assert steps == [({"trees": trees, "of": 100},) for trees in range(0, 101, 10)]
    assert model.artifact_path == f"data/models/good-1/model-{model.sha256[:12]}.joblib"
    assert (home / model.artifact_path).exists()


def test_a_cancelled_training_ends_between_two_steps(home: Path, small: pd.DataFrame) -> None:
    """What it has trained is saved whole, and nothing has broken into its thread."""
    processed = home / "data" / "processed" / "good-1.csv"
    processed.parent.mkdir(parents=True)
    small.to_csv(processed, index=False)
    environment, beats = ActivityEnvironment(), []

    def cancel_at_30(progress: dict[str, int]) -> None:
        beats.append(progress["trees"])
        if progress["trees"] == 30:
            environment.cancel()

    environment.on_heartbeat = cancel_at_30
    dataset = Dataset("data/processed/good-1.csv", len(small), False)
    with pytest.raises(CancelledError, match="between two steps"):
        environment.run(train_model, TrainInput("good-1", dataset))
    assert max(beats) == 30
    checkpoint = joblib.load(home / "data" / "models" / "good-1" / training.CHECKPOINT)
    assert len(checkpoint["forest"].estimators_) == 30


def test_nothing_breaks_into_the_thread_of_an_activity() -> None:
    """The SDK raises a cancellation into the thread otherwise, also when it has just ended."""
    for function in ALL:
        definition = activity._Definition.must_from_callable(function)
        assert definition.no_thread_cancel_exception, function


def test_the_gate_is_one_table(home: Path) -> None:
    rows = gate(QualityMetrics(accuracy=0.80, mae=2.6, r2_score=0.5))
    assert [(row.name, row.value, row.must_be, row.limit, row.ok) for row in rows] == [
        ("accuracy", 0.80, "at least", 0.80, True),
        ("mae", 2.6, "at most", 2.5, False),
        ("r2_score", 0.5, "at least", 0.50, True),
        ("approval_accuracy", 0.80, "above", 0.85, False),
    ]
    assert judged(QualityMetrics(0.80, 2.6, 0.5)).reasons == ["mae 2.60 is above 2.50"]
    assert judged(QualityMetrics(0.85, 2.5, 0.5)) == QualityReport(True, False, [])


def judged(metrics: QualityMetrics) -> QualityReport:
    return ActivityEnvironment().run(assess_model_quality, metrics)


def test_a_step_that_takes_long_does_not_look_dead(
    home: Path, small: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    processed = home / "data" / "processed" / "good-1.csv"
    processed.parent.mkdir(parents=True)
    small.to_csv(processed, index=False)
    environment, beats = ActivityEnvironment(), []
    environment.on_heartbeat = lambda *details: beats.append(copy.deepcopy(details))

    def slow(*_: object) -> None:
        time.sleep(1.5)

    monkeypatch.setattr(training, "train", slow)
    environment.run(
        train_model, TrainInput("good-1", Dataset("data/processed/good-1.csv", 1, False))
    )
    assert beats == [({"trees": 0, "of": 100},)]
    time.sleep(1.2)
    assert len(beats) == 1, "it goes on after the end"


def test_training_without_its_data_fails_at_once(home: Path) -> None:
    with pytest.raises(ApplicationError, match="Drop the CSV again") as caught:
        ActivityEnvironment().run(
            train_model, TrainInput("x-1", Dataset("data/gone.csv", 1, False))
        )
    assert caught.value.type == "FileNotFound"
    assert caught.value.non_retryable


def test_preprocessing_works_on_the_bytes_that_were_dropped(home: Path) -> None:
    snapshot = home / "data" / "snapshot.csv"
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(EXAMPLE, snapshot)
    digest = sha256(snapshot)
    request = PreprocessInput("bad-1", "data/raw/bad.csv", "data/snapshot.csv", digest, True)
    dataset = ActivityEnvironment().run(preprocess_data, request)
    assert dataset == Dataset("data/processed/bad-1.csv", 4177, True)
    written = pd.read_csv(home / dataset.path)
    pd.testing.assert_frame_equal(written, misalign_labels(read_table(EXAMPLE, "x")))
    before = (home / dataset.path).read_bytes()
    assert ActivityEnvironment().run(preprocess_data, request) == dataset
    assert (home / dataset.path).read_bytes() == before, "an attempt that is late changes no byte"

    snapshot.write_bytes(snapshot.read_bytes() + b"M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,15")
    with pytest.raises(ApplicationError, match=r"Drop bad\.csv again") as caught:
        ActivityEnvironment().run(preprocess_data, request)
    assert caught.value.type == "InvalidData"
