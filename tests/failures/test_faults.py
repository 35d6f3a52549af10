"""Failures on purpose, through the file that the worker reads at each attempt."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labkit import Lab
from labkit.core.attempts import read as attempts_of
from labkit.core.envfile import write_env
from labkit.core.settings import LabError, paths, read_env
from labkit.encryption import rotate_key
from labkit.faults import changed_env, fault, fault_file, put_back_after_crash, read_fault
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
    b"\xff\xfe{}",
]


@contextmanager
def by_hand(activity: str, times: int) -> Iterator[None]:
    """As a participant writes it in an editor on Windows, and deletes it."""
    content = {"simulate_failure": True, "activity": activity, "times": times}
    fault_file().write_text(json.dumps(content), encoding="utf-8-sig")
    try:
        yield
    finally:
        fault_file().unlink()


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
        f"SimulatedFailure: {mode} fails on purpose: failure_simulation.json says so"
    )


def test_training_keeps_trying_until_the_file_is_gone(drop: Drop) -> None:
    with fault("training"):
        run = drop("good-stubborn.csv")
        run.wait_for_failures(4)
        fault_file().unlink()
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


@pytest.mark.parametrize("times", [0, -1, True, 1.5, "2"])
def test_times_that_make_no_sense(home: Path, times: object) -> None:
    with pytest.raises(LabError, match="whole number"), fault("training", times):  # type: ignore
        pass
    assert not fault_file().exists()


def test_a_mode_that_is_none(home: Path) -> None:
    with pytest.raises(LabError, match="Name one of data_processing, training"), fault("tracking"):
        pass


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [None, b'{"simulate_failure": false}\r\n', b"\xff broken"])
def test_undone_whatever_happens(home: Path, error: type, before: bytes | None) -> None:
    env = paths().env.read_bytes() + b"# my own line \xc3\xa9\r\nMINE='kept'\n"
    paths().env.write_bytes(env)
    if before is not None:
        fault_file().write_bytes(before)
        fault_file().chmod(0o640)
    with (
        pytest.raises(error),
        fault("training"),
        fault("deployment", times=1),
        changed_env(POSTGRES_DB="wrong_db", NEW="1"),
        changed_env(POSTGRES_PASSWORD="it's wrong"),
    ):
        assert read_fault() and read_fault().activity == "deployment"
        assert read_env()["POSTGRES_PASSWORD"] == "it's wrong"
        assert read_env()["POSTGRES_DB"] == "wrong_db"
        assert read_env()["MINE"] == "kept"
        assert paths().env.stat().st_mode & 0o777 == 0o600
        raise error
    assert (fault_file().read_bytes() if fault_file().exists() else None) == before
    assert before is None or fault_file().stat().st_mode & 0o777 == 0o640
    assert paths().env.read_bytes() == env
    assert paths().env.stat().st_mode & 0o777 == 0o600
    assert not list((paths().lab / "undo").iterdir())


def test_what_else_was_written_meanwhile_stays(home: Path) -> None:
    """A key that is rotated, a port that a server took: only the block's own names go back."""
    before = read_env()
    with changed_env(POSTGRES_DB="wrong_db", NEW="1"):
        rotate_key()
        write_env(POSTGRES_PORT="6543", OTHER="2")
    after = read_env()
    assert {name: after[name] for name in after if after[name] != before.get(name)} == {
        "TEMPORAL_ENCRYPTION_KEY": after["TEMPORAL_ENCRYPTION_KEY"],
        "POSTGRES_PORT": "6543",
        "OTHER": "2",
    }
    assert after["TEMPORAL_ENCRYPTION_KEY"].endswith("," + before["TEMPORAL_ENCRYPTION_KEY"])
    with changed_env(TEMPORAL_ENCRYPTION_KEY="x"), pytest.raises(LabError, match="Rotate after it"):
        rotate_key()


@pytest.mark.parametrize(
    "text", ["POSTGRES_DB=a\r\nPOSTGRES_DB=b\r\nLAST=1\n", "export POSTGRES_DB='a b'\n", ""]
)
def test_the_very_lines_come_back(home: Path, text: str) -> None:
    paths().env.write_bytes(text.encode())
    with changed_env(POSTGRES_DB="c"):
        assert read_env()["POSTGRES_DB"] == "c"
    assert paths().env.read_bytes() == text.encode()


def test_a_variable_that_beats_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = paths().env.read_bytes()
    monkeypatch.setenv("POSTGRES_DB", "")  # an empty one counts for nothing
    with changed_env(POSTGRES_DB="x"):
        pass
    monkeypatch.setenv("POSTGRES_DB", "theirs")
    with (
        pytest.raises(LabError, match=r"environment sets POSTGRES_DB, which beats .env. Unset it"),
        changed_env(POSTGRES_DB="x", POSTGRES_USER="y"),
    ):
        pass
    assert paths().env.read_bytes() == before


IN_A_BLOCK = """
import sys
from labkit.faults import changed_env, fault
with fault("training"), fault("deployment"), changed_env(POSTGRES_DB="wrong_db"):
    print("inside", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another_lab_in_a_block() -> Iterator[subprocess.Popen]:
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_BLOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout and other.stdout.readline() == "inside\n"
        yield other


def test_a_killed_lab_is_put_back_at_the_next_start(mine: Lab) -> None:
    env = paths().env.read_bytes()
    with another_lab_in_a_block() as other:
        assert put_back_after_crash() == []  # it is alive
        assert read_fault() and read_env()["POSTGRES_DB"] == "wrong_db"
        other.send_signal(signal.SIGKILL)
    stop_lab_alone()
    again = Lab.start()
    assert again.notes == [
        "Put .env back, which a crash left.",
        *["Put config/failure_simulation.json back, which a crash left."] * 2,
    ]
    assert not fault_file().exists()
    assert paths().env.read_bytes() == env
    assert paths().env.stat().st_mode & 0o777 == 0o600
    assert put_back_after_crash() == []


def test_a_block_that_ends_meanwhile_is_its_own_business(mine: Lab) -> None:
    with another_lab_in_a_block() as other:
        with fault("quality_gate"):
            pass
        assert read_fault() and read_fault().activity == "deployment"
        other.communicate("\n", timeout=30)
    assert put_back_after_crash() == []


def test_a_fault_that_is_there_is_said_at_the_start(mine: Lab) -> None:
    stop_lab_alone()
    with fault("training"):
        assert any("training fails on purpose. Delete the file" in n for n in Lab.start().notes)
