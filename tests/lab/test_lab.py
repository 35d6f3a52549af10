"""``Lab``, as notebooks use it: servers, worker and watcher, in this process and in others."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import Lab, services
from labkit.ask.history import activities
from labkit.core.process import until
from labkit.core.record import State
from labkit.core.settings import REPOSITORY, LabError, paths
from labkit.pipeline.work.description import of_run
from labkit.run import Run
from tests.conftest import enter
from tests.unit.own_data import houses

LONG = 120


@pytest.fixture(scope="module")
def module_lab(servers_home: Path) -> Iterator[None]:
    yield
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, servers_home)
        stop_lab_alone()


@pytest.fixture
def mine(module_lab: None, servers: Path) -> Lab:
    """A lab on the shared servers. It runs on from test to test."""
    return Lab.start()


def stop_lab_alone() -> None:
    """Stop this process's lab, but not the servers: the other tests of the session need them."""
    if Lab._current:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(services, "leave", lambda: False)
            Lab._current.stop()


def small(folder: Path, name: str = "small.csv", rows: int = 300) -> Path:
    path = folder / name
    path.write_text("\n".join(paths().example.read_text().splitlines()[: rows + 1]))
    return path


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_from_a_file_to_prod(mine: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    run = mine.drop("good.csv")
    run.follow(until="awaiting_prod_approval", seconds=LONG)
    run.approve(by="Ada")
    run.follow(seconds=LONG)
    assert run.status().deployment_status == "deployed_to_prod"
    assert len(run.experiments()) == 1
    infant = {"sex": "I", "length": 0.3, "diameter": 0.2, "height": 0.07, "whole_weight": 0.1}
    weights = {"shucked_weight": 0.05, "viscera_weight": 0.03, "shell_weight": 0.04}
    assert 3 < run.predict("prod", **infant, **weights) < 12
    assert run.id in {found.id for found in mine.runs()}
    out, err = capfd.readouterr()
    assert err == ""
    said = [line.split(":")[0].removesuffix(".csv") for line in out.splitlines()]
    assert all(word.isidentifier() for word in said), out


def test_own_data_as_the_readme_says(mine: Lab) -> None:
    """Its commands, word for word, on a file of 30 columns; and the file is trained on."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    commands = readme.partition("## Your own data")[2].split("```")[1].removeprefix("bash\n")
    before = (paths().config / "dataset.yml").read_bytes()
    (paths().root / "houses.csv").write_bytes(houses(300))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    here = {"cwd": paths().root, "env": os.environ | {"PATH": path, "PYTHONPATH": str(REPOSITORY)}}
    try:
        subprocess.run(["sh", "-ec", commands], **here, check=True)  # type: ignore[call-overload]
        assert until(lambda: [row for row in mine.runs() if "houses" in row.id], LONG)
        run = mine.run(next(row.id for row in mine.runs() if "houses" in row.id))
        run.follow(until="awaiting_prod_approval", seconds=LONG)
        described = of_run(run.status().model_id)
        assert (len(described.columns), described.unit) == (30, "price")
        assert run.predict("dev", **described.sample) > 50_000
        run.reject(by="Ada", reason="a test")
        run.follow(seconds=LONG)
    finally:
        (paths().config / "dataset.yml").write_bytes(before)
        (paths().config / "houses.yml").unlink(missing_ok=True)


def test_runs_are_a_table_and_can_be_compared(mine: Lab, tmp_path: Path) -> None:
    good = mine.drop("good-first.csv", small(tmp_path, rows=1000))
    good.follow(until="awaiting_prod_approval", seconds=LONG)
    bad = mine.drop("bad-second.csv", small(tmp_path, rows=1000))
    bad.follow(seconds=LONG)
    runs = mine.runs()
    assert [run.id for run in runs[:2]] == [bad.id, good.id]
    frame = runs.frame()
    assert list(frame["file"][:2]) == ["bad-second", "good-first"]
    assert frame["status"][1] == "waiting for approval" and frame["MAE"][0] > frame["MAE"][1] > 1
    assert "bad-second" in repr(runs) and f"{len(runs)} runs." in repr(runs)
    assert "<th>MAE</th>" in runs._repr_html_()
    both = mine.compare(bad, good)
    first, second = str(both).splitlines()[1:]
    assert first.startswith("good-first ") and "falls short: " in second
    assert [len(axes.lines) for axes in both.draw().axes] == [3, 2, 2]  # the runs, and the gate
    assert "good-first" in str(mine.compare())
    with mine.env(POSTGRES_PASSWORD="wrong"):
        assert runs.frame()["MAE"].isna().all()
        with pytest.raises(LabError, match=r"PostgreSQL, where figures are kept, says: .*password"):
            mine.compare(bad, good)


def test_started_twice_it_is_the_same_lab(mine: Lab) -> None:
    before = threads()
    assert Lab.start() is mine
    assert threads() == before
    assert "The lab runs, with a plain worker." in repr(mine)


def test_four_files_at_once_train_side_by_side(mine: Lab) -> None:
    for number in range(4):
        shutil.copy(paths().example, paths().raw / f".good{number}")
    for number in range(4):
        (paths().raw / f".good{number}").rename(paths().raw / f"good{number}.csv")
    deadline = time.monotonic() + 20
    runs: list[Run] = []
    while len(runs) < 4 and time.monotonic() < deadline:
        runs = [run for run in mine.runs() if run.id[:-1].endswith("-good")]
    for run in runs:
        run.follow(until="quality_assessment", seconds=LONG)
    records = [record for run in runs for record in activities(run.history())]
    trained = [record for record in records if record.activity_id == "train_model"]
    assert len(trained) == 4
    latest_start = max(record.started for record in trained if record.started)
    assert all(record.ended and record.ended > latest_start for record in trained)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "a/b.csv", "../x.csv", "/etc/x.csv", "notes.txt", ".hidden.csv"),
        *("~$x.csv", "nul\0.csv", f"surrogate{chr(0xD800)}.csv", "x" * 300 + ".csv"),
    ],
)
def test_a_name_that_cannot_be_dropped(mine: Lab, name: str) -> None:
    with pytest.raises(LabError, match=r"plain name|cannot be copied"):
        mine.drop(name)
    assert not [path for path in paths().raw.iterdir() if path.name.startswith(".")]


def test_a_source_that_cannot_be_dropped(mine: Lab, tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "nowhere.csv", "nul\0"):
        with pytest.raises(LabError, match="is not a file"):
            mine.drop("good.csv", source)


@pytest.mark.parametrize("name", ["it's quoted.csv", "名前 🐚.csv", "UPPER.CSV", "-dash.csv"])
def test_odd_names_can_be_dropped(mine: Lab, name: str, tmp_path: Path) -> None:
    run = mine.drop(name, small(tmp_path))
    run.follow(until="data_preprocessing", seconds=LONG)
    assert run.status().dataset_path == f"data/raw/{name}"


def test_without_a_watcher_a_drop_says_why(
    mine: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stop_lab_alone()
    alone = Lab.start(watcher=False)
    monkeypatch.setattr("labkit.run.DROP_SECONDS", 0.5)
    with pytest.raises(LabError, match=r"no workflow mlops-.* started within 0.5 s. Is a watcher"):
        alone.drop("unseen.csv", small(tmp_path))


def test_an_encrypted_lab_and_back(mine: Lab, tmp_path: Path) -> None:
    assert Lab.start(encrypted=True) is mine
    run = mine.drop("good-secret.csv", small(tmp_path, rows=1000))
    run.follow(until="quality_assessment", seconds=LONG)
    stored = json.dumps(run.history().to_json_dict())
    assert "YmluYXJ5L2VuY3J5cHRlZA" in stored  # binary/encrypted, in base64
    mine.restart(encrypted=False)
    assert "with a plain worker" in repr(mine)
    assert "model_training" in run.status().completed_steps


async def test_the_client_is_the_real_sdk(mine: Lab, tmp_path: Path) -> None:
    run = await asyncio.to_thread(mine.drop, "good-client.csv", small(tmp_path))
    client = await mine.client()
    status = await client.get_workflow_handle(run.id).query("get_status")
    assert status["workflow_id"] == run.id


NEWER = """
import sys
from labkit import Lab
lab = Lab.start()
print("ready", flush=True)
sys.stdin.readline()
lab.stop()
"""


def test_a_newer_lab_takes_over(mine: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    run = mine.drop("good-relay.csv")
    with subprocess.Popen(
        [sys.executable, "-c", NEWER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as newer:
        assert newer.stdout and newer.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 5
        while not mine.relieved_by and time.monotonic() < deadline:
            time.sleep(0.05)
        assert f"process {newer.pid}" in mine.relieved_by
        assert not {name for name in threads() if name.startswith(("activity", "Inotify"))}
        run.follow(until="awaiting_prod_approval", seconds=LONG)  # the newer lab's worker goes on
        assert "took over at" in repr(mine)
        later = mine.drop("good-relayed.csv")
        assert "To take over at once: lab = Lab.start()" in capsys.readouterr().err
        later.follow(until="data_preprocessing", seconds=LONG)
        assert Lab.start() is mine
        assert not mine.relieved_by
        assert State.read().newest_lab and State.read().newest_lab.process.pid == os.getpid()
        newer.communicate("\n", timeout=30)
    assert newer.returncode == 0
    assert services.status()["temporal"]["running"]
    later.follow(until="model_training", seconds=LONG)


def test_a_lab_that_stands_by_takes_nothing_over(mine: Lab) -> None:
    """A page that is merely loaded: its lab works only when there is no other."""
    with subprocess.Popen(
        [sys.executable, "-c", NEWER.replace("start()", "start(take_over=False)")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as page:
        assert page.stdout and page.stdout.readline() == "ready\n"
        time.sleep(1)
        assert mine.duty.on and not mine.relieved_by
        mine.duty.end()
        assert until(lambda: _on_duty() == page.pid, 10), State.read().labs
        Lab.start()
        assert mine.duty.on
        page.communicate("\n", timeout=30)


def _on_duty() -> int | None:
    newest = State.read().newest_lab
    return newest.process.pid if newest else None


def test_a_lab_whose_record_was_deleted_goes_on(mine: Lab, tmp_path: Path) -> None:
    paths().state.unlink()
    assert until(lambda: _on_duty() == os.getpid(), 10)
    services.join()
    services.start()  # which takes over or ends what no record names
    run = mine.drop("good-forgotten.csv", small(tmp_path, rows=1000))
    run.follow(until="quality_assessment", seconds=LONG)


def test_the_worker_prints_nothing(
    mine: Lab, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("good-quiet.csv", "bad-quiet.csv"):
        mine.drop(name, small(tmp_path, rows=40 if "bad" in name else 1000))
    broken = mine.drop("broken.csv", small(tmp_path, rows=5))
    with pytest.raises(LabError, match="InsufficientData"):
        broken.follow(until="model_training", seconds=LONG)
    time.sleep(1)
    out, err = capfd.readouterr()
    assert err == ""
    assert "Traceback" not in out
    assert "InsufficientData" in (paths().logs / "lab.log").read_text()


def test_stopped_it_says_so_and_stopping_twice_is_harmless(mine: Lab) -> None:
    run = mine.drop("good-last.csv")
    stop_lab_alone()
    started = time.monotonic()
    mine.stop()
    assert repr(mine) == "The lab is stopped. Start it: lab = Lab.start()"
    with pytest.raises(LabError, match="The lab is stopped"):
        mine.runs()
    with pytest.raises(LabError, match="The lab is stopped"):
        run.status()
    assert time.monotonic() - started < 1


def test_a_server_that_is_down_is_said_in_words(mine: Lab) -> None:
    port = int(services.status()["temporal"]["address"].rpartition(":")[2])
    mine.temporal.stop()
    try:
        with socket.socket() as nobody, pytest.raises(LabError, match=r"lab\.temporal\.start"):
            nobody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            nobody.bind(("127.0.0.1", port))  # no other lab on this machine gets the port
            mine.runs()
    finally:
        mine.temporal.start()
    assert isinstance(mine.runs(), list)


def test_a_server_that_moved_is_found(mine: Lab, tmp_path: Path) -> None:
    port = int(services.status()["temporal"]["address"].rpartition(":")[2])
    mine.temporal.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        mine.temporal.start()
        assert Lab.start() is mine
    assert services.status()["temporal"]["address"] != f"127.0.0.1:{port}"
    mine.drop("good-moved.csv", small(tmp_path)).follow("data_preprocessing", seconds=LONG)
