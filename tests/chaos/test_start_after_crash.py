"""Whatever a crash leaves, the next start works, says what it found, and mends it."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import psutil
import pytest

from labkit import Lab, Run, services
from labkit.core.envfile import write_env
from labkit.core.record import State
from labkit.core.settings import paths, read_env
from labkit.doctor import examine
from labkit.faults import read_fault
from labkit.pipeline.work.tracking import database
from labkit.services.postgres import data_folder
from labkit.services.temporal import _set_broken_database_aside
from tests.chaos import checks
from tests.chaos.conftest import SEEDS
from tests.lab.test_lab import small

STARTS = int(os.environ.get("CHAOS_STARTS") or 2)
START = """
import sys, time
from labkit import Lab
print("starting", flush=True)
Lab.start()
print("ready", flush=True)
time.sleep(600)
"""
LONG = 120
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120 + 30 * STARTS)]


class Start:
    """``Lab.start()`` in a process of its own, which is to be killed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", START], stdout=subprocess.PIPE, text=True
        )
        self.wait_for("starting")

    def wait_for(self, word: str) -> float:
        """Returns how many seconds that took."""
        started = time.monotonic()
        assert self.process.stdout
        assert self.process.stdout.readline().strip() == word
        return time.monotonic() - started

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def processes() -> list[psutil.Process]:
    """The servers of this lab, known by the home in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LABKIT_HOME") == str(paths().root):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_servers(rng: Random) -> None:
    """All of them, or each by the toss of a coin, in any order."""
    found, all_of_them = processes(), rng.random() < 0.5
    for process in rng.sample(found, len(found)):
        if process.pid != os.getpid() and (all_of_them or rng.random() < 0.5):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue


@pytest.mark.parametrize("seed", SEEDS)
def test_a_start_that_is_killed_at_any_moment(home: Path, tmp_path: Path, seed: int) -> None:
    """The first amid initdb, the second amid a run, the others anywhere."""
    rng = Random(seed)
    print(f"Replay: make chaos SEEDS={seed} STARTS={STARTS} ARGS='-k any_moment'")
    write_env(LABKIT_SPEED="10")
    paths().make()
    (paths().raw / "good.csv").write_text(small(tmp_path).read_text())
    start = Start()
    while not [*paths().lab.glob("postgres.new-*/data/base")]:
        time.sleep(0.005)
    start.kill()
    kill_servers(rng)

    start = Start()
    seconds = start.wait_for("ready")
    start.kill()
    kill_servers(rng)
    for _ in range(STARTS - 1):
        start = Start()
        moment = rng.uniform(0, seconds)
        print(f"killed after {moment:.2f} of {seconds:.2f} s")
        time.sleep(moment)
        start.kill()
        kill_servers(rng)

    lab = Lab.start()
    try:
        print(lab.notes)
        [run] = the_runs(lab)
        run.follow("quality_assessment", seconds=LONG)
        assert len(run.experiments()) == 1
        assert examine(quiet=True)
        checks.nothing_unfinished_is_left()
        assert not [*paths().lab.glob("postgres.new-*")]
    finally:
        lab.stop()
    checks.no_process_is_left()
    assert State.read() == State()


def the_runs(lab: Lab) -> list[Run]:
    """The runs of a file that is there: the watcher may have started none when it was killed."""
    deadline = time.monotonic() + LONG
    while not lab.runs() and time.monotonic() < deadline:
        time.sleep(0.05)
    return lab.runs()


def dead_pid() -> int:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    return int(ended.stdout)


def broken_record() -> None:
    paths().state.write_text('{"services": {"temporal"')


def unfinished_file() -> None:
    (paths().models / f".labkit-{dead_pid()}-abc").write_text("half a mod")


def change_of_the_dead() -> None:
    """A notebook was killed amid ``lab.env`` and ``lab.fault``: nobody needs to put that back."""
    changes = paths().lab / "changes"
    changes.mkdir(exist_ok=True)
    env, fault = {"POSTGRES_PASSWORD": "wrong"}, {"activity": "training", "times": None}
    content = {"owner": {"pid": dead_pid(), "created": 1.0}, "env": env, "fault": fault}
    (changes / "00000000000000000001-1.json").write_text(json.dumps(content))


def record_of_another_version() -> None:
    """JSON, and not what this version writes."""
    paths().state.write_text('{"services": {"temporal": {"address": "localhost", "pid": 1}}}')


def half_an_env() -> None:
    lines = paths().env.read_text().splitlines(keepends=True)
    [cut] = [n for n, line in enumerate(lines) if line.startswith("POSTGRES_PASSWORD")]
    paths().env.write_text("".join(lines[:cut]))


def empty_env() -> None:
    paths().env.write_text("")


def models_of_an_earlier_version() -> None:
    (paths().deployments / "dev").mkdir(exist_ok=True)
    (paths().deployments / "dev" / "deployments.json").write_text("")


def killed_initdb() -> None:
    (data_folder().parent / "postgres.new-abc" / "data").mkdir(parents=True)
    (data_folder().parent / "postgres.new-abc" / "password").write_text("secret")


def killed_servers() -> None:
    for process in processes():
        if process.pid != os.getpid():
            process.kill()
            process.wait()


# What to break, and what the next start and the doctor say of it (empty: it is no news).
STATES: list[tuple[Callable[[], None], str, str]] = [
    (killed_servers, "", "was killed"),
    (broken_record, "record of servers could not be read", "record of servers is broken"),
    (unfinished_file, "Deleted 1 unfinished files", "1 unfinished files"),
    (change_of_the_dead, "", ""),
    (half_an_env, ".env lacked", ".env lacks"),
    (models_of_an_earlier_version, "dev has forgotten the models of an earlier version", ""),
    (killed_initdb, "", ""),
    (empty_env, "", ""),
    (record_of_another_version, "record of servers could not be read", ""),
]
TOGETHER = STATES[2:-2]


def well() -> None:
    """It is as if nothing had happened."""
    assert all(server["running"] for server in services.status().values())
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM experiments")
    assert read_fault() is None
    assert not [*(paths().lab / "changes").iterdir()]
    assert not [*data_folder().parent.glob("postgres.new-*")]
    assert read_env()["POSTGRES_PASSWORD"] and read_env()["TEMPORAL_ENCRYPTION_KEY"]


@pytest.mark.parametrize(
    "states",
    [[STATES[0], *TOGETHER], [STATES[0], STATES[1], STATES[-2]], [STATES[0], STATES[-1]]],
    ids=["all at once", "no record and no settings", "the record of another version"],
)
def test_the_next_start_says_what_it_found_and_mends_it(
    servers: Path, states: list[tuple[Callable[[], None], str, str]]
) -> None:
    for break_it, _, _ in states:
        break_it()
    lab = Lab.start(worker=False, watcher=False)
    try:
        for break_it, note, _ in states:
            if note:
                assert [n for n in lab.notes if note in n], (break_it.__name__, lab.notes)
        well()
    finally:
        leave(lab)


def leave(lab: Lab) -> None:
    """Stop this lab, but not the servers, which other tests need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "leave", lambda: False)
        lab.stop()


def test_the_doctor_finds_and_mends_the_same(
    servers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services.join()
    for break_it, _, _ in [STATES[0], *TOGETHER]:
        break_it()
    assert not examine()
    found = capsys.readouterr().out
    for _, _, words in [STATES[0], *TOGETHER]:
        assert words in found
    examine(fix=True)
    assert "was killed" in capsys.readouterr().out
    assert examine(quiet=True), capsys.readouterr().out
    well()


def test_the_doctor_finds_a_broken_record(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    services.prepare()
    broken_record()
    assert not examine()
    assert "record of servers is broken" in capsys.readouterr().out
    assert examine(fix=True)
    assert examine()


def half_made(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE namespaces (id)")
        connection.commit()


def garbage(file: Path) -> None:
    file.write_bytes(b"\xff" * 4096)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("make", [half_made, garbage, empty])
def test_a_temporal_server_that_was_killed_amid_its_first_start(
    home: Path, make: Callable[[Path], None]
) -> None:
    services.prepare()
    make(paths().lab / "temporal.db")
    [note] = services.start("temporal")
    assert "half made or broken: it is broken-temporal.db now" in note
    assert services.status()["temporal"]["running"]
    services.stop("temporal")
    assert services.start("temporal") == [], "a whole one is kept"


def test_a_database_that_is_locked_is_not_called_broken(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.prepare()
    file = paths().lab / "temporal.db"
    half_made(file)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0))
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert _set_broken_database_aside() == []
    assert file.exists()
    assert _set_broken_database_aside() != []
