"""``python -m labkit``, each command in a process of its own."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue

import httpx
import psutil
import pytest
from temporalio.service import RPCError

from labkit import codec_server, services
from labkit.ask.client import connect
from labkit.ask.runs import Row, list_rows
from labkit.core.envfile import write_env
from labkit.core.process import Process
from labkit.core.record import State, changing
from labkit.core.settings import LabError, paths
from labkit.pipeline.messages import Approval
from labkit.pipeline.work import tracking
from labkit.pipeline.work.tracking import database
from tests.conftest import enter, make_home
from tests.ports import BLOCK, JUPYTER

LONG = 90
STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
# Under five seconds on a machine with nothing else to do; here three test processes share it.
ENDS_WITHIN = 20
LABKIT = [sys.executable, "-m", "labkit"]


def hear_hangups() -> None:
    """Whatever has started the tests may have ignored the end of its terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Command:
    """A command that runs on until it is told to stop."""

    def __init__(self, *arguments: str, nohup: bool = False) -> None:
        self.process = subprocess.Popen(
            [*LABKIT, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=None if nohup else hear_hangups,
        )
        self.lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, word: str, seconds: float = LONG) -> list[str]:
        """The lines up to the first that holds a word."""
        seen: list[str] = []
        deadline = time.monotonic() + seconds
        while not seen or word not in seen[-1]:
            try:
                seen.append(self.lines.get(timeout=max(0, deadline - time.monotonic())))
            except Empty:
                pytest.fail(f"no {word!r} within {seconds} s in {seen}")
        return seen

    def end(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(LONG)

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))


def labkit(*arguments: str, code: int = 0) -> str:
    """Run a command to its end; returns what it printed."""
    done = subprocess.run([*LABKIT, *arguments], capture_output=True, text=True, timeout=LONG)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    if code == 1 and done.stderr:
        assert done.stderr.startswith("labkit: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stdout + done.stderr


def processes_of(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()) + process.environ().get("LABKIT_HOME", ""):
                found.append(process)
        except psutil.Error:
            pass
    return [process for process in found if process.pid != os.getpid()]


def is_gone(home: Path, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while left := processes_of(home):
        if time.monotonic() > deadline:
            print(*(process.as_dict(["pid", "cmdline", "status"]) for process in left), sep="\n")
            return False
        time.sleep(0.1)
    return True


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lab of one's own, without any claim of this process on its servers."""
    folder = make_home()
    enter(monkeypatch, folder)
    yield folder
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder)
        services.end_commands()
        services.down()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def up_home() -> Iterator[Path]:
    """One ``up`` for the tests that only ask things of it."""
    folder = make_home()
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder)
        up = Command("up")
        up.wait_for("ready")
        yield folder
        assert up.end() == 0
        assert is_gone(folder)
        assert State.read() == State()
    shutil.rmtree(folder)


@pytest.fixture
def up(up_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(monkeypatch, up_home)
    return up_home


def drop(name: str) -> str:
    """Drop the sample and wait until its run awaits approval; returns the workflow's id."""
    hidden = paths().raw / f".{name}"
    shutil.copyfile(paths().example, hidden)
    hidden.rename(paths().raw / name)
    return wait_for_run(Path(name).stem, "awaiting_prod_approval")


def wait_for_run(stem: str, word: str) -> str:
    """Ask in this process, not by a command each time, which would keep a core busy."""

    async def ask() -> list[Row]:
        return await list_rows(await connect())

    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        with suppress(LabError, RPCError):
            for row in asyncio.run(ask()):
                if row.id.endswith(f"-{stem}") and word in (row.state, row.step):
                    return row.id
        time.sleep(0.1)
    pytest.fail(f"no run of {stem} came to {word}: {labkit('status')}")


@pytest.mark.parametrize("signum", STOPS)
def test_up_and_a_clean_stop(own: Path, signum: int) -> None:
    up = Command("up", "--encrypted")
    lines = up.wait_for("ready")
    assert "an encrypted worker" in lines[0]
    for address in (r"127.0.0.1:\d+", r"http://127.0.0.1:\d+"):
        assert re.search(address, "\n".join(lines))
    assert lines[-1] == "ready"
    assert State.read().newest_lab and State.read().newest_lab.encrypted
    assert up.end(signum) == 0
    assert is_gone(own)
    assert State.read() == State()


@pytest.mark.parametrize(
    ("seconds", "signum"), [(0.8, signal.SIGHUP), (1.5, signal.SIGTERM), (2.2, signal.SIGHUP)]
)
def test_a_signal_while_it_starts(own: Path, seconds: float, signum: int) -> None:
    """Whatever is under way then: it says so, and nothing is left."""
    up = Command("up")
    time.sleep(seconds)
    up.process.send_signal(signum)
    time.sleep(0.05)
    began = time.monotonic()
    status = up.end()
    assert status in (0, 130, -signum)
    assert time.monotonic() - began < ENDS_WITHIN
    assert is_gone(own)
    said = "\n".join(up.lines.queue)
    assert "Traceback" not in said
    assert status == -signum or "stopping" in said, "it had not begun anything, or it says so"
    assert not State.read().services


@pytest.mark.parametrize("command", ["worker", "watch", "codec-server"])
def test_the_end_of_the_terminal_ends_every_command(up: Path, command: str) -> None:
    alone = Command(command)
    alone.wait_for("ready")
    assert alone.end(signal.SIGHUP) == 0


def test_what_nohup_started_outlives_the_terminal(own: Path) -> None:
    heard = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        up = Command("up", nohup=True)
    finally:
        signal.signal(signal.SIGHUP, heard)
    up.wait_for("ready")
    up.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert up.process.poll() is None
    assert all(server["running"] for server in services.status().values())
    assert up.end() == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_when_a_newer_lab_ends_the_one_before_is_on_duty_again(own: Path, signum: int) -> None:
    first, temporal = Command("up"), 0
    first.wait_for("ready")
    temporal = services.status()["temporal"]["pid"]
    second = Command("up")
    second.wait_for("ready")
    assert f"A newer lab (process {second.process.pid}) took over" in first.wait_for("took")[-1]
    time.sleep(1)
    assert first.lines.empty(), "it says so once"
    second.end(signum)
    first.wait_for("on duty again", 20)
    run = drop("good-relayed.csv")
    wait_for_run("good-relayed", "awaiting_prod_approval")
    labkit("approve", run)
    assert services.status()["temporal"]["pid"] == temporal
    assert first.end(signal.SIGINT) == 0
    assert is_gone(own)


def test_after_a_sigkill_the_next_up_works(own: Path) -> None:
    first = Command("up")
    first.wait_for("ready")
    run = drop("good.csv")
    first.end(signal.SIGKILL)
    shutil.copy(paths().state, own / "state.json")
    paths().state.unlink()  # as if it had been killed before it wrote anything down
    second = Command("up")
    lines = second.wait_for("ready")
    assert any("crash had left running" in line for line in lines), lines
    labkit("approve", run)
    wait_for_run("good", "completed")
    assert second.end() == 0
    assert is_gone(own)


def test_down_ends_an_up_in_another_terminal(own: Path) -> None:
    up = Command("up")
    up.wait_for("ready")
    said = labkit("down")
    assert f"ended up (pid {up.process.pid})" in said
    assert up.process.wait(5) == 0
    assert is_gone(own)
    assert labkit("down").endswith("is stopped\n")


def test_reset(own: Path) -> None:
    up = Command("up")
    up.wait_for("ready")
    run = drop("good.csv")
    tracking.record_approval(
        run, "run-1", Approval("good-1", "approved", "ann", "", "2026-01-02T12:00Z")
    )
    said = labkit("reset")
    assert "terminated 1 open workflows" in said
    assert up.process.wait(5) == 0
    assert is_gone(own)
    assert [path.name for path in paths().raw.iterdir()] == ["good.csv"]
    for folder in (paths().processed, paths().models, paths().deployments):
        assert list(folder.iterdir()) == []
    again = Command("up")
    again.wait_for("ready")
    assert f"{run} " in labkit("status") and "terminated" in labkit("status")
    with database() as connection, connection.cursor() as cursor:
        for table in ("experiments", "approvals"):
            cursor.execute(f"SELECT count(*) FROM {table}")
            assert cursor.fetchone() == (0,)
    again.end()


def test_worker_and_watch_alone(own: Path) -> None:
    services.start()
    parts = [Command("worker"), Command("watch")]
    for part in parts:
        part.wait_for("ready")
    assert {user.what for user in State.read().users} == {"worker", "watch"}
    labkit("approve", drop("good.csv"))
    wait_for_run("good", "completed")
    assert [parts[0].end(signal.SIGINT), parts[1].end(signal.SIGTERM)] == [0, 0]
    assert services.status()["temporal"]["running"]


def test_status(up: Path) -> None:
    servers = json.loads(labkit("status", "--json"))["services"]
    assert set(servers) == {"temporal", "ui", "postgres", "dev", "prod"}
    for name, server in servers.items():
        assert server["running"] is True
        assert isinstance(server["pid"], int)
        assert server["address"].startswith(
            "127.0.0.1:" if name in ("temporal", "postgres") else "http://"
        )
    run = drop("good-status.csv")
    assert json.loads(labkit("status", run, "--json"))["current_step"] == "awaiting_prod_approval"
    assert "awaiting_prod_approval  waiting" in labkit("status", run)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TEMPORAL_API_KEY", "theirs"), ("TEMPORAL_TLS", "true"), ("TEMPORAL_ENV", "nowhere")],
)
def test_what_the_shell_says_of_other_temporal_servers(
    up: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    run = drop(f"good-{name}.csv")
    monkeypatch.setenv(name, value)
    assert run in labkit("status")
    assert "WorkflowExecutionStarted" in codec_server.show(run)


def test_decisions(up: Path) -> None:
    approved, rejected = drop("good-approved.csv"), drop("good-rejected.csv")
    assert "is approved" in labkit("approve", approved, "--by", "Ada")
    assert "is rejected" in labkit("reject", rejected, "--by", "Bob", "--reason", "too old")
    wait_for_run("good-approved", "completed")
    wait_for_run("good-rejected", "completed")
    assert "approved by Ada" in labkit("status", approved)
    assert "too old" in labkit("status", rejected)
    assert approved in labkit("approve", approved, code=1)


@pytest.mark.parametrize("command", ["status", "approve", "reject"])
def test_an_unknown_id(up: Path, command: str) -> None:
    assert "no-such-run" in labkit(command, "no-such-run", code=1)


@pytest.mark.parametrize("command", ["status", "approve", "reject", "worker"])
def test_without_a_server(own: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    arguments = [] if command == "worker" else ["some-run"]
    assert "python -m labkit start temporal" in labkit(command, *arguments, code=1)


def test_bad_usage(own: Path) -> None:
    assert "invalid choice" in labkit("start", "everything", code=2)
    assert "--bogus" in labkit("up", "--bogus", code=2)
    write_env(POSTGRES_PORT="many")
    assert "POSTGRES_PORT" in labkit("up", code=1)
    assert is_gone(own)


@pytest.mark.parametrize(
    "name, value", [("TEMPORAL_ADDRESS", "localhost"), ("POSTGRES_HOST", "a:1")]
)
def test_an_unusable_address_is_refused_and_not_recorded(own: Path, name: str, value: str) -> None:
    write_env(**{name: value}, LABKIT_POSTGRES="external")
    for command in (["up"], ["start", "temporal" if "TEMPORAL" in name else "postgres"]):
        said = labkit(*command, code=1)
        assert f"{name} in {own}/.env is not usable" in said
    assert not State.read().services
    for command in (["status"], ["down"]):
        labkit(*command)
    assert name in labkit("doctor", code=1)
    write_env(**{name: ""}, LABKIT_POSTGRES="embedded")
    assert "is stopped" in labkit("down")


RECORDS = [
    '{"services": {"temporal": {"address": "localhost", "process": null}}}',
    '{"services": {"temporal": {"address": "http://h:x", "external": true}}}',
    '{"services": {"postgres": {"address": "127.0.0.1:70000", "wanted_port": 1}}}',
    '{"services": {"dev": {"address": "127.0.0.1:1", "pid": 1, "created": 1}}}',
    '{"services": {}, "users": [{"process": {"pid": "x", "created": 0}, "what": "up"}]}',
    '{"services": {}, "users": [], "owner": {"token": "t"}}',
    '{"services": [], "users": {}}',
]


@pytest.mark.parametrize("content", RECORDS, ids=range(len(RECORDS)))
def test_a_record_that_cannot_be_used_is_mended(own: Path, content: str) -> None:
    services.prepare()
    paths().state.write_text(content)
    for command, code in (("status", 0), ("doctor", 1), ("down", 0)):
        paths().state.write_text(content)
        said = labkit(command, code=code)
        assert command != "doctor" or "record of servers is broken" in said
    paths().state.write_text(content)
    assert "mended  the record of servers is broken" in labkit("doctor", "--fix")
    assert json.loads(paths().state.read_text())["services"] == {}


@pytest.mark.parametrize("pid", [-1, 0, 2**31, 2**70])
def test_a_record_of_a_process_that_cannot_be(own: Path, pid: int) -> None:
    services.prepare()
    process = {"pid": pid, "created": 1.0}
    server = {"address": "127.0.0.1:1", "process": process}
    content = {"services": {"temporal": server}, "users": [{"process": process, "what": "up"}]}
    paths().state.write_text(json.dumps(content))
    assert "stopped" in labkit("status")
    labkit("doctor", code=1)
    labkit("down")
    assert State.read().services == {}


@pytest.mark.parametrize("command", ["lab", "dashboard"])
def test_a_home_that_jupyter_cannot_write(
    own: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("HOME", "/proc")
    assert "Mend: export HOME=" in labkit(command, code=1)
    assert "wrong   Jupyter cannot write /proc/" in labkit("doctor", code=1)


@pytest.mark.parametrize("service", ["temporal", "postgres", "models"])
def test_stop_and_start_one_server(up: Path, service: str) -> None:
    record = {"models": "dev"}.get(service, service)
    process = State.read().services[record].process
    assert f"{service} is stopped" in labkit("stop", service)
    assert process and not process.alive()
    assert State.read().services[record].process is None
    assert labkit("start", service).startswith(f"{service} runs at ")
    assert services.status()[record]["running"] is True


def test_a_healthy_lab_passes_the_doctor(up: Path) -> None:
    said = labkit("doctor")
    assert "wrong" not in said.replace("0 things are wrong", "")
    assert "PostgreSQL lets the pipeline in" in said


def test_what_is_passed_over_is_said_where_people_look(own: Path) -> None:
    up = Command("up")
    up.wait_for("ready")
    shutil.copyfile(paths().example, paths().raw / "abalone.data")
    words = "data/raw/abalone.data {}does not end in .csv. If it is a CSV, rename it abalone.csv"
    assert up.wait_for("passed over")[-1] == f"passed over: {words.format('')}"
    assert labkit("status").splitlines()[-1] == f"passed over: {words.format('')}"
    assert f"wrong   {words.format('is passed over: it ')}" in labkit("doctor", code=1)
    (paths().raw / "abalone.data").rename(paths().raw / "good.csv")
    wait_for_run("good", "awaiting_prod_approval")
    assert "passed over" not in labkit("status") + labkit("doctor")
    assert up.end() == 0
    assert [*up.lines.queue] == ["stopping"]


def mode(path: Path) -> None:
    path.chmod(0o644)


def wrong_password(path: Path) -> None:
    write_env(POSTGRES_PASSWORD="wrong")


def dead_user(path: Path) -> None:
    with changing() as state:
        state.users[0].process, mine = Process(4_000_000, 1.0), state.users[0].process
        state.users.append(type(state.users[0])(mine, "up"))


@pytest.mark.parametrize(
    ("break_it", "found"),
    [
        (mode, "open to other users (mode 644)"),
        (wrong_password, "does not let the pipeline in"),
        (dead_user, "on record, but dead: 4000000"),
    ],
)
def test_the_doctor_finds_and_mends(up: Path, break_it: Callable[[Path], None], found: str) -> None:
    break_it(paths().env)
    wrong = labkit("doctor", code=1)
    [line] = [line for line in wrong.splitlines() if line.startswith("wrong")]
    assert found in line
    mended = labkit("doctor", "--fix")
    assert f"mended  {line.removeprefix('wrong').strip()}" in mended
    labkit("doctor")


def test_the_doctor_ends_what_a_sigkill_left(own: Path) -> None:
    up = Command("up")
    up.wait_for("ready")
    up.end(signal.SIGKILL)
    assert "nobody uses them" in labkit("doctor", code=1)
    assert "mended" in labkit("doctor", "--fix")
    assert is_gone(own)
    labkit("doctor")


def test_the_doctor_ends_what_no_file_records(own: Path) -> None:
    services.start()
    paths().state.unlink()
    assert labkit("doctor", code=1).count("was left behind by a crash") >= 2
    labkit("doctor", "--fix")
    assert len([p for p in processes_of(own) if "postgres" not in p.name()]) == 0


def test_the_doctor_sees_runs_that_no_worker_takes(own: Path) -> None:
    services.start()
    services.join("lab")
    watch = Command("watch")
    watch.wait_for("ready")
    shutil.copyfile(paths().example, paths().raw / "good.csv")
    wait_for_run("good", "running")
    said = labkit("doctor", code=1)
    assert "1 open workflows, and no worker polls the queue" in said
    assert watch.end() == 0


def test_lab_opens_jupyterlab_and_leaves_nothing(own: Path) -> None:
    port = f"--port={BLOCK.of(own) + JUPYTER}"
    jupyter = Command("lab", "--no-browser", "--ServerApp.token=letmein", port)
    [*_, line] = jupyter.wait_for("http://127.0.0.1:")
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found
    deadline = time.monotonic() + LONG
    status = 0
    while status != 200 and time.monotonic() < deadline:
        try:
            status = httpx.get(f"{found[0]}/api/status?token=letmein").status_code
        except httpx.HTTPError:
            time.sleep(0.2)
    assert status == 200
    assert [user.what for user in State.read().users] == ["jupyter"]
    headers = {"Authorization": "token letmein"}
    kernel = httpx.post(f"{found[0]}/api/kernels", headers=headers, json={}).json()
    assert kernel["id"]
    jupyter.end()
    assert is_gone(own, seconds=15)
    assert State.read().users == []
