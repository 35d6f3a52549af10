"""``Lab``, as notebooks use it: servers, worker and watcher, in this process and in others."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client.manager import KernelManager

from labkit import Lab, lab, services
from labkit.run import Run
from labkit.services.state import State
from labkit.settings import LabError, paths, write_env
from labkit.views.history import activities

LONG = 120


@pytest.fixture
def mine(servers: Path) -> Iterator[Lab]:
    """A lab on the shared servers."""
    yield Lab.start()
    if Lab._current:
        Lab._current.stop()
        services.join()  # the session's own claim on the servers, of this same process


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
    assert all(line.split(":")[0].isidentifier() for line in out.splitlines()), out


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
    trained = [record for record in records if record.activity == "train_model"]
    assert len(trained) == 4
    latest_start = max(record.started for record in trained if record.started)
    assert all(record.ended and record.ended > latest_start for record in trained)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b.csv", "../x.csv", "/etc/x.csv", "notes.txt", ".hidden.csv", "~$x.csv"]
    + ["x" * 300 + ".csv", "nul\0.csv", "\ud800.csv"],
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
    mine.stop()
    services.join()
    alone = Lab.start(watcher=False)
    monkeypatch.setattr(lab, "DROP_SECONDS", 0.5)
    with pytest.raises(LabError, match=r"no workflow mlops-.* started within 0.5 s. Is a watcher"):
        alone.drop("unseen.csv", small(tmp_path))


def test_an_encrypted_lab_and_back(mine: Lab, tmp_path: Path) -> None:
    assert Lab.start(encrypted=True) is mine
    run = mine.drop("good-secret.csv", small(tmp_path, rows=1000))
    run.follow(until="dev_deployment", seconds=LONG)
    stored = json.dumps(run.history().to_json_dict())
    assert "YmluYXJ5L2VuY3J5cHRlZA" in stored  # binary/encrypted, in base64
    mine.restart(encrypted=False)
    assert "with a plain worker" in repr(mine)
    assert "dev_deployment" in run.status().completed_steps


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
        assert "To take over again: lab = Lab.start()" in capsys.readouterr().err
        later.follow(until="data_preprocessing", seconds=LONG)
        assert Lab.start() is mine
        assert not mine.relieved_by
        assert State.read().owner and State.read().owner.process.pid == os.getpid()
        newer.communicate("\n", timeout=30)
    assert newer.returncode == 0
    assert services.status()["temporal"]["running"]
    later.follow(until="model_training", seconds=LONG)


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
    mine.stop()
    services.join()
    started = time.monotonic()
    mine.stop()
    assert repr(mine) == "The lab is stopped. Start it: lab = Lab.start()"
    with pytest.raises(LabError, match="The lab is stopped"):
        mine.runs()
    with pytest.raises(LabError, match="The lab is stopped"):
        run.status()
    assert time.monotonic() - started < 1


def test_a_server_that_is_down_is_said_in_words(mine: Lab) -> None:
    mine.temporal.stop()
    try:
        with pytest.raises(LabError, match=r"lab.temporal.start\(\)"):
            mine.runs()
    finally:
        mine.temporal.start()
    assert isinstance(mine.runs(), list)


def test_the_last_to_leave_stops_the_servers(home: Path) -> None:
    alone = Lab.start()
    pids = {server["pid"] for server in services.status().values()}
    before = {thread for thread in threading.enumerate() if thread.name == "labkit"}
    alone.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not [thread for thread in before if thread.is_alive()]
    assert State.read() == State()


@pytest.mark.parametrize("where", ["_take_over", "_on_duty", "_watch_for_newer"])
def test_an_interrupted_start_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupt(self: Lab) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lab, where, interrupt)
        if where != "_take_over":  # these run on the loop, the interrupt comes to the caller
            patch.setattr(lab.Background, "submit", interrupt_at(where, lab.Background.submit))
        Lab.start()
    assert State.read() == State()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(home) in str(p.info["cmdline"])]
    assert Lab._current is None


def interrupt_at(where: str, submit):  # type: ignore[no-untyped-def]
    def interrupting(self, make):  # type: ignore[no-untyped-def]
        if make.__name__ == "interrupt":
            raise KeyboardInterrupt
        return submit(self, make)

    return interrupting


def test_interrupted_while_it_goes_on_duty(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coroutine goes on when its waiter is interrupted: stopping must wait for its end."""
    result = lab.Background.run

    def run(self, make, seconds=60.0):  # type: ignore[no-untyped-def]
        if make.__name__ == "_on_duty":
            self.submit(make)
            raise KeyboardInterrupt
        return result(self, make, seconds)

    monkeypatch.setattr(lab.Background, "run", run)
    with pytest.raises(KeyboardInterrupt):
        Lab.start()
    assert State.read() == State()
    assert not {name for name in threads() if name.startswith(("labkit", "activity", "Inotify"))}
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"POSTGRES_PORT": "many"}, "POSTGRES_PORT"),
        ({"LABKIT_WATCHER": "never"}, "LABKIT_WATCHER"),
        ({"TEMPORAL_ENCRYPTION_KEY": "short"}, "TEMPORAL_ENCRYPTION_KEY"),
        ({"LABKIT_TEMPORAL_CLI": "/nowhere/temporal"}, "LABKIT_TEMPORAL_CLI"),
    ],
)
def test_wrong_settings_are_said_in_words(home: Path, setting: dict[str, str], word: str) -> None:
    write_env(**setting)
    with pytest.raises(LabError, match=word):
        Lab.start(encrypted=True)
    assert State.read().users == []
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(home) in str(p.info["cmdline"])]


def test_a_script_that_forgets_to_stop_leaves_nothing(home: Path) -> None:
    """At exit, amid a training."""
    script = "from labkit import Lab; Lab.start().drop('good.csv').follow('model_training')"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=LONG)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert State.read() == State()


class Kernel:
    """A real kernel, as a notebook has."""

    def __init__(self) -> None:
        self.manager = KernelManager()
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(60)

    def run(self, code: str, interrupt_after: float | None = None) -> str:
        """Run a cell; returns what it printed, or the name of its error."""
        shown: list[str] = []

        def hook(message: dict) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                shown.append(content["text"])
            elif message["msg_type"] == "error":
                shown.append(content["ename"])

        if interrupt_after:
            threading.Timer(interrupt_after, self.manager.interrupt_kernel).start()
        self.client.execute_interactive(code, timeout=LONG, output_hook=hook)
        return "".join(shown)

    def shut_down(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel()


def test_in_a_kernel(home: Path) -> None:
    kernel = Kernel()
    try:
        kernel.run("from labkit import Lab; lab = Lab.start()")
        shown = kernel.run("run = lab.drop('good.csv'); run.follow()", interrupt_after=6)
        assert "KeyboardInterrupt" in shown
        shown = kernel.run(
            "run.follow(until='awaiting_prod_approval'); run.approve(); run.follow()"
        )
        assert "completed: deployed to prod" in shown
        kernel.run("lab = Lab.start()", interrupt_after=0.05)
        kernel.run("lab = Lab.start()")
        assert "[1]" in kernel.run("print([len(run.experiments())])")
        asked = "await (await lab.client()).get_workflow_handle(run.id).query('get_status')"
        assert "completed" in kernel.run(f"print(({asked})['current_step'])")
        pids = {server["pid"] for server in services.status().values()}
        assert all(psutil.pid_exists(pid) for pid in pids)
    finally:
        kernel.shut_down()
    deadline = time.monotonic() + 15
    while State.read().services and time.monotonic() < deadline:
        time.sleep(0.1)
    assert State.read() == State()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_after_a_kernel_was_killed(home: Path) -> None:
    kernel = Kernel()
    kernel.run("from labkit import Lab; run = Lab.start().drop('good.csv')")
    before = services.status()["temporal"]["pid"]
    kernel.manager.signal_kernel(signal.SIGKILL)
    kernel.shut_down()
    alone = Lab.start()
    try:
        assert services.status()["temporal"]["pid"] == before
        [run] = alone.runs()
        run.follow(until="awaiting_prod_approval", seconds=LONG)
    finally:
        alone.stop()
    assert State.read() == State()
