"""What a lesson changes in Python: it holds while its block lasts and its process lives."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from labkit import encryption
from labkit.core.envfile import write_env
from labkit.core.lesson import changes
from labkit.core.process import Process
from labkit.core.settings import LabError, known, paths, read_env, settings
from labkit.encryption import retire_key, rotate_key
from labkit.faults import Fault, changed_env, fault, fault_file, read_fault
from tests.failures.test_faults import by_hand


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
    was, said = known(), read_fault()
    with (
        pytest.raises(error),
        fault("training"),
        fault("deployment", times=1),
        changed_env(POSTGRES_DB="wrong_db", NEW="1"),
        changed_env(POSTGRES_PASSWORD="it's wrong"),
    ):
        assert read_fault() == Fault("deployment", 1)
        assert known()["POSTGRES_PASSWORD"] == "it's wrong"
        assert settings().postgres_db == "wrong_db"
        assert known()["MINE"] == "kept"
        assert {file.stat().st_mode & 0o777 for file in changes()} == {0o600}
        raise error
    assert (known(), read_fault()) == (was, said)
    assert (fault_file().read_bytes() if fault_file().exists() else None) == before
    assert before is None or fault_file().stat().st_mode & 0o777 == 0o640
    assert paths().env.read_bytes() == env
    assert not changes()


def test_the_latest_block_holds_and_the_others_stay(home: Path) -> None:
    with changed_env(POSTGRES_DB="a", POSTGRES_USER="a"), fault("training"):
        with changed_env(POSTGRES_DB="b"), fault("deployment"):
            assert (settings().postgres_db, settings().postgres_user) == ("b", "a")
            assert read_fault() == Fault("deployment")
        assert settings().postgres_db == "a"
        assert read_fault() == Fault("training")


def test_an_empty_value_is_none_over_one_in_env(home: Path) -> None:
    write_env(POSTGRES_DB="mine")
    with changed_env(POSTGRES_DB=""):
        assert settings().postgres_db == "mlops_tracking", "the lab's own default"


def test_a_block_beats_the_file_and_leaves_it(home: Path) -> None:
    with by_hand("training", 2), fault("deployment"):
        assert read_fault() == Fault("deployment")
        assert json.loads(fault_file().read_text("utf-8-sig"))["activity"] == "training"


def test_what_else_was_written_meanwhile_stays(home: Path) -> None:
    """A key that is rotated, a port that a server took: the block is not in the file."""
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


def test_a_variable_that_beats_the_block(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = paths().env.read_bytes()
    monkeypatch.setenv("POSTGRES_DB", "")  # an empty one counts for nothing
    with changed_env(POSTGRES_DB="x"):
        assert settings().postgres_db == "x"
    monkeypatch.setenv("POSTGRES_DB", "theirs")
    with (
        pytest.raises(LabError, match=r"environment sets POSTGRES_DB, which beats .env. Unset it"),
        changed_env(POSTGRES_DB="x", POSTGRES_USER="y"),
    ):
        pass
    assert paths().env.read_bytes() == before
    assert not changes()


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


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_process_changes_nothing_any_more(home: Path, reaped: bool) -> None:
    env, files = paths().env.read_bytes(), paths().lab / "changes"
    with another_lab_in_a_block() as other:
        assert read_fault() == Fault("deployment")
        assert settings().postgres_db == "wrong_db", "it holds for this process, too"
        assert len(list(files.iterdir())) == 3
        other.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
        assert read_fault() is None
        assert settings().postgres_db == "mlops_tracking"
        assert not list(files.iterdir()), "deleted on the way"
    assert paths().env.read_bytes() == env
    assert not fault_file().exists()


def test_a_pid_that_another_process_has_now(home: Path) -> None:
    """Nor does a change hold that bears a living pid, and was made before that process."""
    mine = Process.current()
    with changed_env(POSTGRES_DB="wrong_db"):
        [file] = changes()
        owner = {"pid": mine.pid, "created": mine.created - 60}
        file.write_text(json.dumps({"owner": owner, "env": {"POSTGRES_DB": "wrong_db"}}))
        assert settings().postgres_db == "mlops_tracking"
        assert not file.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"owner": 7}', '{"env": {"A": "b"}}', "\0"])
def test_a_change_that_cannot_be_read_is_void(home: Path, content: str) -> None:
    file = paths().lab / "changes" / "00000000000000000001-1.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert settings().postgres_db == "mlops_tracking"
    assert not file.exists()


def test_a_block_that_ends_meanwhile_is_its_own_business(home: Path) -> None:
    with another_lab_in_a_block() as other:
        with fault("quality_gate"):
            assert read_fault() == Fault("quality_gate")
        assert read_fault() == Fault("deployment")
        other.communicate("\n", timeout=30)
    assert not changes()


# ---------------------------------------------------------------- keys are changed in .env alone


@pytest.mark.parametrize("change", [rotate_key, lambda: retire_key("12345678")])
@pytest.mark.parametrize("where", ["a lab.env block", "the environment"])
def test_keys_that_come_from_elsewhere_stay(
    home: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object], where: str
) -> None:
    keys = read_env()["TEMPORAL_ENCRYPTION_KEY"] + "," + Fernet.generate_key().decode()
    monkeypatch.setattr(encryption, "keys_without", lambda id: keys)
    before = paths().env.read_bytes()
    with ExitStack() as stack:
        if where == "the environment":
            monkeypatch.setenv("TEMPORAL_ENCRYPTION_KEY", keys)
        else:
            stack.enter_context(changed_env(TEMPORAL_ENCRYPTION_KEY=keys))
        with pytest.raises(LabError, match=f"The keys come from {where}.*Rotate after it"):
            change()
    assert paths().env.read_bytes() == before
