"""Failures on purpose: the file that the worker reads at each attempt, and blocks in Python."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from labkit import Lab
from labkit.core.journal import attempts_of
from labkit.core.settings import LabError, paths
from labkit.faults import clear, fault, fault_file, read_fault
from labkit.pipeline.work.deployment import predict
from tests.failures.conftest import SPEED, Drop
from tests.lab.test_lab import stop_lab_alone

# mode: the activity that fails first, how often it is tried, the step after it, its first gap
MODES = {
    "data_processing": ("preprocess_data", 3, "model_training", 1),
    "training": ("train_model", 0, "experiment_tracking", 5),
    "quality_gate": ("assess_model_quality", 3, "dev_deployment", 1),
    "deployment": ("deploy_to_dev", 3, "awaiting_prod_approval", 2),
}
INFANT = {"sex": "I", "length": 0.3, "diameter": 0.2, "height": 0.07, "whole_weight": 0.1} | {
    "shucked_weight": 0.05, "viscera_weight": 0.03, "shell_weight": 0.04
}  # fmt: skip
BROKEN = [
    *("", "{", "[]", "7", "null", '"training"', "[" * 100_000, "{}"),
    '{"simulate_failure": true}',
    '{"simulate_failure": "true", "activity": "training"}',
    '{"simulate_failure": 1, "activity": "training"}',
    '{"simulate_failure": true, "activity": "tracking"}',
    '{"simulate_failure": true, "activity": ["training"]}',
    *(
        f'{{"simulate_failure": true, "activity": "training", "times": {times}}}'
        for times in ("0", "-1", '"2"', "true", "1.5", "[]")
    ),
    '{"simulate_failure": true, "activity": "training", "when": "later"}',
    '{"simulate_failure": true, "activity": "training", "when": ["after"]}',
    b"\xff\xfe{}",
]


@contextmanager
def by_hand(activity: str, times: int | None = None, when: str = "") -> Iterator[None]:
    """As a participant writes it in an editor on Windows, and deletes it."""
    content = {"simulate_failure": True, "activity": activity, "times": times}
    content |= {"when": when} if when else {}
    fault_file().write_text(json.dumps(content), encoding="utf-8-sig")
    try:
        yield
    finally:
        fault_file().unlink(missing_ok=True)


@pytest.mark.parametrize("make", [fault, by_hand])
@pytest.mark.parametrize("mode", MODES)
def test_it_fails_so_often_and_then_works(mode: str, make: type, drop: Drop) -> None:
    activity, _, after, gap = MODES[mode]
    with make(mode, 2):
        run = drop(f"good-{mode}.csv")
        run.follow(until=after)
    run.prove(activity, attempts=3, gaps=[gap / SPEED, 2 * gap / SPEED])
    failed = [a.failure for a in attempts_of(run.id) if a.outcome == "failed"]
    assert failed == ["SimulatedFailure"] * 2


@pytest.mark.parametrize("mode", [mode for mode in MODES if MODES[mode][1]])
def test_a_fault_that_stays_fails_the_run(mode: str, drop: Drop) -> None:
    activity, attempts, _, _ = MODES[mode]
    with fault(mode):
        run = drop(f"good-stays-{mode}.csv")
        run.follow()
    run.prove(activity, attempts=attempts, outcome="failed")
    assert run.status().failure_reason == (
        f"SimulatedFailure: {mode} fails on purpose: lab.fault says so"
    )


@pytest.mark.parametrize("make", [fault, by_hand])
def test_training_keeps_trying_until_the_fault_is_cleared(drop: Drop, make: type) -> None:
    with make("training"):
        run = drop(f"good-stubborn-{make.__name__}.csv")
        run.wait_for_failures(4)
        clear()
        run.follow(until="awaiting_prod_approval")
    assert [a.outcome for a in attempts_of(run.id) if a.activity_id == "train_model"] == [
        *("failed",) * 4,
        "completed",
    ]


def test_a_failed_prod_deployment_leaves_the_model_before_it(drop: Drop) -> None:
    before = drop("good-before.csv")
    before.follow(until="awaiting_prod_approval")
    before.approve()
    before.follow()
    answer = before.predict("prod", **INFANT)
    later = drop("good-later.csv", rows=2000)
    later.follow(until="awaiting_prod_approval")
    with fault("deployment"):
        later.approve()
        later.follow()
    later.prove("deploy_to_prod", attempts=2, outcome="failed")
    assert predict("prod", [INFANT], "current") == [answer] != [later.predict("dev", **INFANT)]


def test_a_fault_after_the_switch_and_the_way_back(mine: Lab, drop: Drop) -> None:
    """The later model really serves on prod; the compensation puts the one before it back."""
    first = drop("good-serving.csv")
    first.follow(until="awaiting_prod_approval")
    first.approve()
    first.follow()
    before = first.predict("prod", **INFANT)
    with mine.env(LABKIT_SPEED="1"):  # the second attempt comes five seconds after the first
        second = drop("good-switched.csv", rows=2000)
    second.follow(until="awaiting_prod_approval")
    after = second.predict("dev", **INFANT)
    with fault("deployment", when="after"):
        second.approve()
        second.wait_for_failures(1)
        assert predict("prod", [INFANT], "current") == [after] != [before]
        second.follow()
    assert predict("prod", [INFANT], "current") == [before]
    second.prove("deploy_to_prod", attempts=2, outcome="failed")
    second.prove("restore_prod")
    assert second.status().failure_reason == (
        "SimulatedFailure: deployment fails on purpose after its work: lab.fault says so"
    )


def test_a_fault_after_the_work_is_tried_again(drop: Drop) -> None:
    with by_hand("training", 1, when="after"):
        run = drop("good-answer-lost.csv")
        run.follow(until="experiment_tracking")
    run.prove("train_model", attempts=2)
    trained = [tree for step in run.training() for tree in range(step.first, step.last + 1)]
    assert trained == [*range(1, 101)]  # by the first attempt, which was not believed


def test_when_is_before_or_after(mine: Lab) -> None:
    with pytest.raises(LabError, match="when is 'later'"), fault("training", when="later"):
        pass


def test_several_runs_under_one_fault(drop: Drop) -> None:
    with fault("quality_gate", times=2):
        runs = [drop(f"good-many-{number}.csv") for number in range(5)]
        for run in runs:
            run.follow(until="dev_deployment")
            run.prove("assess_model_quality", attempts=3)


def test_no_fault_is_asked_for(drop: Drop) -> None:
    fault_file().write_text('{"simulate_failure": false}')
    try:
        assert read_fault() is None
        assert str(fault_file()) not in log_after(drop)
    finally:
        fault_file().unlink()


def log_after(drop: Drop) -> str:
    """What a run that goes well adds to the log."""
    log = paths().logs / "lab.log"
    before = len(log.read_text())
    run = drop("good-anyway.csv")
    run.follow(until="model_training")
    run.prove("preprocess_data")
    return log.read_text()[before:]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_a_warning(mine: Lab, content: str | bytes) -> None:
    log = paths().logs / "lab.log"
    before = len(log.read_text())
    fault_file().write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        assert read_fault() is None
    finally:
        fault_file().unlink()
    assert "WARNING labkit.faults" in log.read_text()[before:]
    assert "is ignored" in log.read_text()[before:]
    assert "It should look like {" in log.read_text()[before:]


def test_a_broken_file_fails_no_run(drop: Drop) -> None:
    fault_file().mkdir()
    try:
        assert "IsADirectoryError" in log_after(drop)
    finally:
        fault_file().rmdir()


@pytest.mark.parametrize(
    ("make", "says"), [(fault, "lab.fault"), (by_hand, "failure_simulation.json")]
)
def test_a_fault_that_is_there_is_said_at_the_start(mine: Lab, make: type, says: str) -> None:
    stop_lab_alone()
    with make("training"):
        note = f"training fails on purpose: {says} says so"
        assert any(note in n and "to clear it" in n for n in Lab.start().notes)
