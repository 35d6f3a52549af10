"""``Lab`` from the first start to the last stop: each test has a lab of its own."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from jupyter_client.manager import KernelManager

from labkit import Lab, services
from labkit.core.envfile import write_env
from labkit.core.process import Process
from labkit.core.record import State
from labkit.core.settings import LabError
from labkit.worker import Background
from tests.conftest import copy_data

LONG = 120


@pytest.fixture(autouse=True)
def data(home: Path, initdb_home: Path) -> None:
    copy_data(initdb_home, home)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def run_on(pids: set[int]) -> bool:
    """Any of them runs; a zombie that nobody has reaped does not."""
    found = [Process.of(pid) for pid in pids]
    return any(process.alive() for process in found if process)


def test_the_last_to_leave_stops_the_servers(home: Path) -> None:
    alone = Lab.start()
    pids = {server["pid"] for server in services.status().values()}
    before = {thread for thread in threading.enumerate() if thread.name == "labkit"}
    alone.stop()
    assert not run_on(pids)
    assert not [thread for thread in before if thread.is_alive()]
    assert State.read() == State()


@pytest.mark.parametrize("where", ["services.prepare", "services.start", "Duty.begin"])
def test_an_interrupted_start_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"labkit.lab.{where}", interrupt)
        Lab.start()
    assert State.read() == State()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(home) in str(p.info["cmdline"])]
    assert Lab._current is None


@pytest.mark.parametrize("after", [0.0, 0.02, 0.1])
def test_interrupted_while_it_goes_on_duty(
    home: Path, monkeypatch: pytest.MonkeyPatch, after: float
) -> None:
    """The coroutine goes on when its waiter is interrupted: stopping must end it."""
    result = Background.run

    def run(self, make, seconds=60.0):  # type: ignore[no-untyped-def]
        if make.__name__ == "_begin":
            self.submit(make)
            time.sleep(after)
            raise KeyboardInterrupt
        return result(self, make, seconds)

    monkeypatch.setattr(Background, "run", run)
    with pytest.raises(KeyboardInterrupt):
        Lab.start()
    assert State.read() == State()
    assert not {name for name in threads() if name.startswith(("labkit", "activity", "Inotify"))}
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"POSTGRES_PORT": "many"}, "POSTGRES_PORT"),
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
        assert "Interrupted" in shown
        shown = kernel.run(
            "run.follow(until='awaiting_prod_approval'); run.approve(); run.follow()"
        )
        assert " s: deployed to prod" in shown
        kernel.run("lab = Lab.start()", interrupt_after=0.05)
        kernel.run("lab = Lab.start()")
        assert "[1]" in kernel.run("print([len(run.experiments())])")
        asked = "await (await lab.client()).get_workflow_handle(run.id).query('get_status')"
        assert "completed" in kernel.run(f"print(({asked})['current_step'])")
        pids = {server["pid"] for server in services.status().values()}
        assert run_on(pids)
    finally:
        kernel.shut_down()
    deadline = time.monotonic() + 15
    while State.read().services and time.monotonic() < deadline:
        time.sleep(0.1)
    assert State.read() == State()
    assert not run_on(pids)


def test_after_a_kernel_was_killed(home: Path) -> None:
    kernel = Kernel()
    kernel.run(
        "from labkit import Lab; run = Lab.start().drop('good.csv'); run.follow('model_training')"
    )
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


def test_stopping_does_not_wait_for_a_server_that_is_dead(home: Path) -> None:
    """A worker that has something to report would try to for a quarter of a minute."""
    alone = Lab.start()
    alone.drop("good.csv").follow("model_training")
    psutil.Process(services.status()["temporal"]["pid"]).kill()
    started = time.monotonic()
    alone.stop()
    assert time.monotonic() - started < 6
    assert State.read() == State()
