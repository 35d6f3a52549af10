"""``python -m labkit`` where each test has a lab of its own."""

import json
import re
import shutil
import signal
import time
from pathlib import Path

import httpx
import pytest

from labkit import services
from labkit.core.envfile import write_env
from labkit.core.record import State
from labkit.core.settings import paths
from labkit.pipeline.messages import Approval
from labkit.pipeline.work import tracking
from labkit.pipeline.work.tracking import database
from tests.lab.commands import (
    LONG,
    Command,
    drop,
    here,
    is_gone,
    labkit,
    processes_of,
    wait_for_run,
)
from tests.ports import BLOCK, JUPYTER

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


# Under five seconds on a machine with nothing else to do; here three test processes share it.
ENDS_WITHIN = 20


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


def test_what_nohup_started_outlives_the_terminal(made: Path) -> None:
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
def test_when_a_newer_lab_ends_the_one_before_is_on_duty_again(made: Path, signum: int) -> None:
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
    assert is_gone(made)


def test_after_a_sigkill_the_next_up_works(made: Path) -> None:
    first = Command("up")
    first.wait_for("ready")
    run = drop("good.csv")
    first.end(signal.SIGKILL)
    shutil.copy(paths().state, made / "state.json")
    paths().state.unlink()  # as if it had been killed before it wrote anything down
    second = Command("up")
    lines = second.wait_for("ready")
    assert any("crash had left running" in line for line in lines), lines
    labkit("approve", run)
    wait_for_run("good", "completed")
    assert second.end() == 0
    assert is_gone(made)


def test_down_ends_an_up_in_another_terminal(made: Path) -> None:
    up = Command("up")
    up.wait_for("ready")
    said = labkit("down")
    assert f"ended up (pid {up.process.pid})" in said
    assert up.process.wait(5) == 0
    assert is_gone(made)
    assert labkit("down").endswith("is stopped\n")


def test_reset(made: Path) -> None:
    up = Command("up")
    up.wait_for("ready")
    run = drop("good.csv")
    tracking.record_approval(
        run, "run-1", Approval("good-1", "approved", "ann", "", "2026-01-02T12:00Z")
    )
    said = labkit("reset")
    assert "terminated 1 open workflows" in said
    assert up.process.wait(5) == 0
    assert is_gone(made)
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


def test_worker_and_watch_alone(made: Path) -> None:
    services.start()
    parts = [Command("worker"), Command("watch")]
    for part in parts:
        part.wait_for("ready")
    assert {user.what for user in State.read().users} == {"worker", "watch"}
    labkit("approve", drop("good.csv"))
    wait_for_run("good", "completed")
    assert [parts[0].end(signal.SIGINT), parts[1].end(signal.SIGTERM)] == [0, 0]
    assert services.status()["temporal"]["running"]


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
        said = here(*command, code=1)
        assert f"{name} in {own}/.env is not usable" in said
    assert not State.read().services
    for command in (["status"], ["down"]):
        here(*command)
    assert name in here("doctor", code=1)
    write_env(**{name: ""}, LABKIT_POSTGRES="embedded")
    assert "is stopped" in here("down")


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
        said = here(command, code=code)
        assert command != "doctor" or "record of servers is broken" in said
    paths().state.write_text(content)
    assert "mended  the record of servers is broken" in here("doctor", "--fix")
    assert json.loads(paths().state.read_text())["services"] == {}


@pytest.mark.parametrize("pid", [-1, 0, 2**31, 2**70])
def test_a_record_of_a_process_that_cannot_be(own: Path, pid: int) -> None:
    services.prepare()
    process = {"pid": pid, "created": 1.0}
    server = {"address": "127.0.0.1:1", "process": process}
    content = {"services": {"temporal": server}, "users": [{"process": process, "what": "up"}]}
    paths().state.write_text(json.dumps(content))
    assert "stopped" in here("status")
    here("doctor", code=1)
    here("down")
    assert State.read().services == {}


@pytest.mark.parametrize("command", ["lab", "dashboard"])
def test_a_home_that_jupyter_cannot_write(
    own: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("HOME", "/proc")
    assert "Mend: export HOME=" in labkit(command, code=1)
    assert "wrong   Jupyter cannot write /proc/" in labkit("doctor", code=1)


def test_what_is_passed_over_is_said_where_people_look(made: Path) -> None:
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


def test_the_doctor_ends_what_a_sigkill_left(made: Path) -> None:
    up = Command("up")
    up.wait_for("ready")
    up.end(signal.SIGKILL)
    assert "nobody uses them" in labkit("doctor", code=1)
    assert "mended" in labkit("doctor", "--fix")
    assert is_gone(made)
    labkit("doctor")


def test_the_doctor_ends_what_no_file_records(made: Path) -> None:
    services.start()
    paths().state.unlink()
    assert labkit("doctor", code=1).count("was left behind by a crash") >= 2
    labkit("doctor", "--fix")
    assert len([p for p in processes_of(made) if "postgres" not in p.name()]) == 0


def test_the_doctor_sees_runs_that_no_worker_takes(made: Path) -> None:
    services.start()
    services.join("lab")
    watch = Command("watch")
    watch.wait_for("ready")
    shutil.copyfile(paths().example, paths().raw / "good.csv")
    wait_for_run("good", "running")
    said = labkit("doctor", code=1)
    assert "1 open workflows, and no worker polls the queue" in said
    assert watch.end() == 0


def test_lab_opens_jupyterlab_and_leaves_nothing(made: Path) -> None:
    port = f"--port={BLOCK.of(made) + JUPYTER}"
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
    assert is_gone(made, seconds=15)
    assert State.read().users == []
