"""Servers: shared, found again after a crash, started next to whatever else runs here."""

import importlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg2
import pytest

from labkit import services
from labkit.core.envfile import write_env
from labkit.core.files import sweep
from labkit.core.ports import RANGE, accepts, free_port, held, hold, let_go
from labkit.core.process import Process, spawn, until
from labkit.core.record import Server, State, User, changing
from labkit.core.settings import LabError, paths, read_env
from labkit.pipeline.work.tracking import database
from labkit.services import base, temporal
from labkit.services.postgres import data_folder
from tests.conftest import as_ordinary_user, copy_data, enter
from tests.ports import BLOCK

NAMES = ("temporal", "ui", "postgres", "dev", "prod")


@contextmanager
def taken(port: int) -> Iterator[int]:
    """Some other program listens on the port, or on a free one from there on."""
    port = free_port(port)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield port


def port_of(name: str) -> int:
    return int(State.read().services[name].address.rsplit(":", 1)[1])


def process_of(name: str) -> Process:
    process = State.read().services[name].process
    assert process
    return process


def kill(*names: str) -> None:
    for process in {process_of(name).pid: process_of(name) for name in names}.values():
        psutil.Process(process.pid).kill()
        while process.alive():
            time.sleep(0.01)


def forget(folder: Path) -> None:
    (folder / ".lab" / "state.json").unlink()


def asks_postgres() -> bool:
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM experiments")
        return cursor.fetchone() is not None


@pytest.fixture
def postgres_home(home: Path, initdb_home: Path) -> Path:
    """A home whose PostgreSQL runs, on a port of its own."""
    copy_data(initdb_home, home)
    write_env(POSTGRES_PORT=str(BLOCK.next()))
    services.start("postgres")
    return home


@pytest.fixture
def child() -> Iterator[Process]:
    """A process that has nothing to do with the lab."""
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield Process.of(started.pid)  # type: ignore[misc]
    started.kill()
    started.wait()


# --- ports ---------------------------------------------------------------------------------------


def test_taken_ports_give_the_next_free_ones(
    home: Path, usual_ports: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        taken(BLOCK.next()) as t,
        taken(BLOCK.next()) as ui,
        taken(BLOCK.next()) as pg,
        taken(BLOCK.next()) as dev,
    ):
        monkeypatch.setattr(temporal, "PORT", t)
        monkeypatch.setattr(temporal, "UI_PORT", ui)
        write_env(POSTGRES_PORT=str(pg))
        for name, port in (("dev", dev), ("prod", dev + 1)):
            (home / "config" / f"{name}.yml").write_text(f"port: {port}\n")
        services.start()
        for name, port in {"temporal": t, "ui": ui, "postgres": pg, "dev": dev}.items():
            assert port < port_of(name) < port + 100
        assert port_of("prod") not in (dev, port_of("dev"))
        assert all(server["running"] for server in services.status().values())
        assert read_env()["POSTGRES_PORT"] == str(pg), "the record knows where it is"
        assert asks_postgres()

        moved = port_of("postgres")
        services.stop("postgres")
        services.start("postgres")
        assert port_of("postgres") == moved, "clients know it there"
    services.down()
    assert services.status() == {}


def test_a_port_that_was_edited_meanwhile_is_the_one_that_is_asked(postgres_home: Path) -> None:
    """``.env`` is read afresh: whoever breaks it sees it broken."""
    assert asks_postgres()
    write_env(POSTGRES_PORT=str(BLOCK.next()))
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        asks_postgres()


def test_labs_that_share_a_machine_have_a_range_of_ports_each(
    home: Path, usual_ports: None
) -> None:
    first = BLOCK.next()
    write_env(LABKIT_PORTS=str(first))
    services.start()
    assert [port_of(name) for name in NAMES] == [first + RANGE.index(name) for name in NAMES]
    assert asks_postgres()


def test_ports_that_follow_one_another_are_not_given_twice(home: Path) -> None:
    """Temporal's own port is taken, and the next one is that of its Web UI."""
    with taken(BLOCK.of(home)):
        services.start("temporal")
        assert BLOCK.of(home) < port_of("temporal") < port_of("ui")


def test_a_port_that_the_environment_asks_for_must_be_free(
    home: Path, usual_ports: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taken(BLOCK.next()) as port:
        monkeypatch.setenv("POSTGRES_PORT", str(port))
        with pytest.raises(LabError, match="POSTGRES_PORT in the environment asks for it"):
            services.start("postgres")


def test_all_sockets_are_local_and_the_status_says_where(servers: Path) -> None:
    status = services.status()
    assert set(status) == set(NAMES)
    for name, server in status.items():
        assert set(server) == {"address", "pid", "running"}
        assert server["running"] is True
        assert server["address"].startswith(
            "127.0.0.1:" if name in ("temporal", "postgres") else "http://127.0.0.1:"
        )
        process = psutil.Process(server["pid"])
        for member in (process, *process.children(recursive=True)):
            listening = [c for c in member.net_connections("inet") if c.status == "LISTEN"]
            assert {c.laddr.ip for c in listening} <= {"127.0.0.1", "::1"}
        assert Process.of(process.pid).listens(port_of(name))  # type: ignore[union-attr]
    services.stop("models")
    assert services.status()["dev"] == {**status["dev"], "pid": None, "running": False}
    services.start("models")
    assert services.status()["dev"]["address"] == status["dev"]["address"]


def test_a_stopped_server_whose_port_another_program_has_is_stopped(postgres_home: Path) -> None:
    port = port_of("postgres")
    services.stop("postgres")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        assert services.status()["postgres"]["running"] is False


# --- crashes -------------------------------------------------------------------------------------


def test_killed_servers_start_again_at_the_same_addresses(servers: Path) -> None:
    before = services.status()
    # Somebody is at work while the server is killed.
    with pytest.raises(psycopg2.Error), database() as connection:
        connection.cursor().execute("SELECT 1")
        kill(*NAMES)
        connection.cursor().execute("SELECT 1")
    assert not any(server["running"] for server in services.status().values())
    notes = services.start()
    after = services.status()
    assert {n: s["address"] for n, s in after.items()} == {
        n: s["address"] for n, s in before.items()
    }
    assert all(s["running"] and s["pid"] != before[n]["pid"] for n, s in after.items())
    assert notes == ["PostgreSQL had been killed; it recovers from its log."]
    assert asks_postgres()


@pytest.mark.parametrize("name", ["temporal", "postgres", "models"])
def test_a_server_that_dies_while_somebody_waits_for_it_is_started_anew(
    servers: Path, name: str
) -> None:
    """It was alive when the start looked, and not ready yet."""
    before = process_of({"models": "dev"}.get(name, name))
    os.kill(before.pid, signal.SIGSTOP)
    killer = threading.Timer(1, before.end, kwargs={"hard": True})
    killer.start()
    try:
        services.start(name)
    finally:
        killer.join()
    assert not before.alive()
    assert all(server["running"] for server in services.status().values())
    assert process_of({"models": "dev"}.get(name, name)) != before


def test_servers_that_no_file_records_are_ended_or_taken_over(servers: Path) -> None:
    before = {name: process_of(name) for name in NAMES}
    forget(servers)
    services.join()
    notes = services.start()
    assert len(notes) == 3
    for name in ("temporal", "models"):
        assert any(f"Ended {name} (pid" in note for note in notes)
    assert not any(before[name].alive() for name in ("temporal", "ui", "dev", "prod"))
    assert any(f"Took over PostgreSQL (pid {before['postgres'].pid})" in note for note in notes)
    assert process_of("postgres") == before["postgres"]
    assert asks_postgres()


def test_down_ends_what_no_file_records(servers: Path) -> None:
    before = {name: process_of(name) for name in NAMES}
    forget(servers)
    services.down()
    assert not any(process.alive() for process in before.values())
    services.join()
    services.start()


@pytest.mark.parametrize("setting", ["POSTGRES_PORT=abc", "LABKIT_POSTGRES=external", "PASS=\xff"])
def test_down_works_whatever_env_says(postgres_home: Path, setting: str) -> None:
    """A participant broke .env, or pointed it elsewhere: the servers must not run on for ever."""
    process = process_of("postgres")
    with paths().env.open("ab") as file:
        file.write(f"{setting}\n".encode("latin-1"))
    services.down()
    assert not process.alive()


def test_an_initdb_that_was_killed_leaves_nothing_in_the_way(home: Path) -> None:
    write_env(POSTGRES_PORT=str(BLOCK.next()))
    left = data_folder().parent / "postgres.new-abc"
    (left / "data" / "base").mkdir(parents=True)
    (left / "password").write_text("secret")
    services.start("postgres")
    assert asks_postgres()
    assert not list(data_folder().parent.glob("postgres.new*"))


@pytest.mark.parametrize(
    "content", ["", "garbage", "{pid}\n{folder}\n1700000000\n1\n\n127.0.0.1\n"]
)
def test_a_stale_pid_file_does_not_stop_the_start(
    postgres_home: Path, child: Process, content: str
) -> None:
    kill("postgres")
    lock = data_folder() / "postmaster.pid"
    lock.write_text(content.format(pid=child.pid, folder=data_folder()))
    assert services.start("postgres") == ["PostgreSQL had been killed; it recovers from its log."]
    assert asks_postgres()
    assert child.alive(), "the process that has the pid now is none of ours"


def test_a_recorded_pid_that_another_process_has_now_is_left_alone(
    home: Path, child: Process
) -> None:
    stale = Process(child.pid, child.created - 1000)
    with changing() as state:
        for name in NAMES:
            state.services[name] = Server("127.0.0.1:1", stale)
    assert not any(server["running"] for server in services.status().values())
    services.down()
    assert child.alive()


def test_a_clock_that_is_set_changes_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before, boot = Process.current(), psutil.boot_time()
    if sys.platform == "linux":
        from psutil import _pslinux

        monkeypatch.setattr(_pslinux, "boot_time", lambda: boot + 3600)
        monkeypatch.setattr(psutil, "boot_time", lambda: boot + 3600)
    assert before.alive()
    assert Process.current() == before


FIRST_THREAD_ENDS = """
import ctypes, sys, threading, time
threading.Thread(target=time.sleep, args=(float(sys.argv[1]),)).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PLATFORM: threads are seen as on Linux")
def test_a_process_whose_first_thread_has_ended_is_alive() -> None:
    """As a Go program's may be: it looks like a zombie, and still holds its ports."""
    command = [sys.executable, "-c", FIRST_THREAD_ENDS, "60"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        process = Process.of(child.pid)
        assert process
        assert until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE, 10)
        assert process.alive()
        os.kill(child.pid, signal.SIGKILL)
        assert until(lambda: not process.alive(), 10), "now it is a zombie that nobody has reaped"
    finally:
        child.kill()
        child.communicate()


def test_a_broken_record_counts_as_none(home: Path) -> None:
    paths().lab.mkdir(exist_ok=True)
    for content in (b"", b"{", b"[]", b"\xff", b'{"services": {}}', b'{"services": 1}'):
        paths().state.write_bytes(content)
        assert State.read() == State()
        services.join()
        assert len(State.read().users) == 1


def test_a_deleted_env_gets_the_password_of_the_old_data(postgres_home: Path) -> None:
    old = read_env()["POSTGRES_PASSWORD"]
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    paths().env.unlink()
    notes = services.start("postgres")
    assert notes == ["The password of PostgreSQL is in .env again, from postgres.password."]
    assert read_env()["POSTGRES_PASSWORD"] == old
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT answer FROM kept")
        assert cursor.fetchone() == (42,)


def test_down_makes_no_env_where_there_is_none(postgres_home: Path) -> None:
    paths().env.unlink()
    services.down()
    assert not paths().env.exists(), "the next start would find it, and no password in it"
    services.start("postgres")
    assert asks_postgres()


# --- several processes ---------------------------------------------------------------------------

USER = """
import sys
from labkit import services
services.join(sys.argv[1])
services.start("postgres")
print(services.status()["postgres"]["pid"], flush=True)
sys.stdin.read()
print(services.leave(), flush=True)
"""


def use(what: str = "lab") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def says(user: "subprocess.Popen[str]") -> str:
    assert user.stdout
    return user.stdout.readline().strip()


def ends(user: "subprocess.Popen[str]") -> bool:
    """Let it leave; True when it stopped the servers."""
    assert user.stdin
    user.stdin.close()
    last = says(user) == "True"
    assert user.wait(30) == 0
    assert user.stdout
    user.stdout.close()
    return last


def test_two_that_start_at_once_share_and_the_last_one_stops(home: Path) -> None:
    write_env(POSTGRES_PORT=str(BLOCK.next()))
    first, second, worker = use(), use("up"), use("worker")
    pids = {says(user) for user in (first, second, worker)}
    assert len(pids) == 1
    server = process_of("postgres")
    assert {str(server.pid)} == pids

    assert ends(first) is False
    assert server.alive()
    assert ends(worker) is False
    assert server.alive()
    assert ends(second) is True
    assert not server.alive()
    assert State.read() == State()


def test_a_killed_user_does_not_keep_the_servers(home: Path) -> None:
    write_env(POSTGRES_PORT=str(BLOCK.next()))
    killed, other = use(), use()
    assert says(killed) == says(other)
    server = process_of("postgres")
    killed.kill()
    killed.communicate()
    assert ends(other) is True
    assert not server.alive()


def test_a_user_that_is_killed_while_it_starts_servers_is_in_nobodys_way(home: Path) -> None:
    write_env(POSTGRES_PORT=str(BLOCK.next()))
    for seconds in (0.6, 1.0, 1.3, 1.6):
        user = use()
        time.sleep(seconds)
        user.send_signal(signal.SIGKILL)
        user.communicate()
    services.start("postgres")
    assert asks_postgres()
    running = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(data_folder()) in (process.info["cmdline"] or [])
    ]
    assert len(running) == 1


def test_the_labs_commands_in_other_terminals_are_ended(home: Path, child: Process) -> None:
    services.join("up")
    with changing() as state:
        state.users.append(User(child, "worker"))
    assert services.end_commands() == [f"worker (pid {child.pid})"]
    assert not child.alive()
    assert Process.current().alive()


# --- servers that cannot start, or are not the lab's ---------------------------------------------


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_server_that_cannot_start_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = script(home / "temporal", "echo the disk is on fire >&2; exit 3")
    monkeypatch.setenv("LABKIT_TEMPORAL_CLI", str(broken))
    with pytest.raises(LabError, match="ended while it started") as caught:
        services.start("temporal")
    assert "the disk is on fire" in str(caught.value)
    assert str(paths().logs / "temporal.log") in str(caught.value)


def test_what_an_earlier_start_logged_is_not_taken_for_this_ones(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths().make()
    (paths().logs / "temporal.log").write_text("bind: address already in use\n")
    monkeypatch.setenv("LABKIT_TEMPORAL_CLI", "/bin/false")
    with pytest.raises(LabError, match="ended while it started"):
        services.start("temporal")
    assert "already in use" in (paths().logs / "temporal.old.log").read_text()


def test_a_missing_cli_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_TEMPORAL_CLI", "/no/such/cli")
    with pytest.raises(LabError, match="LABKIT_TEMPORAL_CLI names /no/such/cli"):
        services.start("temporal")


def test_an_empty_password_is_named(home: Path) -> None:
    write_env(POSTGRES_PASSWORD="")
    with pytest.raises(LabError, match="POSTGRES_PASSWORD is empty"):
        services.start("postgres")


def test_one_that_fails_does_not_keep_the_others_from_starting(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_env(POSTGRES_PORT=str(BLOCK.next()))
    monkeypatch.setenv("LABKIT_TEMPORAL_CLI", "/bin/false")
    with pytest.raises(LabError, match="temporal ended while it started"):
        services.start("temporal", "postgres")
    assert services.status()["postgres"]["running"]


def test_a_server_of_another_lab_at_the_port_is_not_taken_for_ours(
    home: Path, servers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two labs start at once: both find the port free, one gets it, and both see an answer."""
    address = services.status()["temporal"]["address"]
    enter(monkeypatch, home)
    asked = []

    def racing(wanted: int, other_than: int | None = None) -> int:
        asked.append(wanted)
        return int(address.rsplit(":", 1)[1]) if len(asked) == 1 else free_port(wanted)

    monkeypatch.setattr(base, "free_port", racing)
    services.start("temporal")
    assert len(asked) == 4, "it tried once more, with other ports"
    assert services.status()["temporal"]["address"] != address
    assert process_of("temporal").listens(port_of("temporal"))


def test_compose_calls_docker(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = home / "calls"
    script(home / "docker", f'echo "$PWD: $@" >> {calls}')
    monkeypatch.setenv("PATH", f"{home}{os.pathsep}{os.environ['PATH']}")
    write_env(LABKIT_POSTGRES="compose", POSTGRES_PORT=str(BLOCK.next()))
    (note,) = services.start("postgres")
    assert "the tables could not be checked" in note, "that docker starts nothing"
    services.down()
    repository = Path(services.__file__).parents[2]
    compose = f"{repository}: compose --env-file {home}/.env"
    assert calls.read_text().splitlines() == [
        f"{compose} up --detach --wait postgres",
        f"{compose} stop postgres",
    ]
    script(home / "docker", "echo no space left; exit 1")
    with pytest.raises(LabError, match=r"(?s)docker compose up.*no space left"):
        services.start("postgres")
    write_env(LABKIT_POSTGRES="embedded")


def test_compose_without_docker(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_POSTGRES", "compose")
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(LabError, match=r"needs Docker\. Mend: LABKIT_POSTGRES=embedded"):
        services.start("postgres")
    monkeypatch.delenv("LABKIT_POSTGRES")


def test_an_external_postgres_is_used_and_neither_started_nor_stopped(
    home: Path, servers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, port = process_of("postgres"), str(port_of("postgres"))
    password = read_env()["POSTGRES_PASSWORD"]
    enter(monkeypatch, home)
    write_env(LABKIT_POSTGRES="external", POSTGRES_PORT=port, POSTGRES_PASSWORD=password)
    assert services.start("postgres") == []
    assert asks_postgres()
    assert services.status()["postgres"] == {
        "address": f"127.0.0.1:{port}",
        "pid": None,
        "running": True,
    }
    with pytest.raises(LabError, match="is not the lab's"):
        services.stop("postgres")
    services.down()
    assert theirs.alive()
    assert not data_folder().exists()


def test_an_external_temporal_is_used_and_neither_started_nor_stopped(
    home: Path, servers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, address = process_of("temporal"), services.status()["temporal"]["address"]
    enter(monkeypatch, home)
    write_env(TEMPORAL_ADDRESS=address)
    services.start("temporal")
    external = {"address": address, "pid": None, "running": True}
    assert services.status() == {"temporal": external}
    with pytest.raises(LabError, match="is not the lab's"):
        services.stop("temporal")
    services.down()
    assert theirs.alive()
    assert accepts(address)


def test_switching_to_an_external_server_ends_the_labs_own(postgres_home: Path) -> None:
    own = process_of("postgres")
    write_env(LABKIT_POSTGRES="external")
    services.start("postgres")
    assert not own.alive()
    assert services.status()["postgres"]["running"] is False


def test_an_own_namespace_is_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_env(TEMPORAL_NAMESPACE="mine")
    services.start("temporal")
    assert services.status()["temporal"]["running"]


# --- processes and users -------------------------------------------------------------------------


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    process = spawn([sys.executable, "-c", f"{code}; time.sleep(600)"], tmp_path / "log")
    while not (tmp_path / "log").read_text():
        time.sleep(0.01)
    started = time.monotonic()
    process.end(seconds=0.3)
    assert not process.alive()
    assert time.monotonic() - started < 2


def test_a_program_that_only_reads_the_database_is_no_orphan(home: Path) -> None:
    paths().make()
    reader = spawn(
        [sys.executable, "-c", "import time; time.sleep(60)", str(paths().lab / "temporal.db")],
        home / "log",
    )
    try:
        assert services.SERVICES["temporal"].end_orphans() == []
        assert reader.alive()
    finally:
        reader.end()


@pytest.mark.parametrize("name", ["C#", "what?", "p%41%", "ü 'x' & y"])
def test_temporal_below_a_folder_whose_name_would_mean_something_in_a_uri(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = home / name / "lab"
    shutil.copytree(home / "config", folder / "config")
    monkeypatch.setenv("LABKIT_HOME", str(folder))
    try:
        services.start("temporal")
        assert (folder / ".lab" / "temporal.db").exists()
        assert [path.name for path in (home / name).iterdir()] == ["lab"]
        server = State.read().services["temporal"].process
        paths().state.unlink()
        [note] = services.SERVICES["temporal"].end_orphans()
        assert server and str(server.pid) in note and not server.alive()
    finally:
        services.down()


def test_the_orphans_of_another_lab_are_not_ours(home: Path) -> None:
    services.start("temporal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", f"{home}/other")
        assert services.SERVICES["temporal"].end_orphans() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such users")
def test_a_lab_of_another_user_is_named_with_the_mend(home: Path) -> None:
    paths().lab.mkdir(exist_ok=True)
    paths().lab.chmod(0o555)
    mend = "belongs to another user. Mend: sudo chown -R"
    with pytest.raises(LabError, match=re.escape(mend)), as_ordinary_user(paths().lab):
        services.join()
    paths().lab.chmod(0o755)


def test_a_taken_port_is_found_in_the_whole_log(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporal's dev server says it once, and panics for a hundred lines."""
    said = "echo bind: address already in use; for n in $(seq 200); do echo goroutine $n; done"
    monkeypatch.setenv("LABKIT_TEMPORAL_CLI", str(script(home / "temporal", f"{said}; exit 2")))
    with pytest.raises(LabError, match="another process took the port first"):
        services.start("temporal")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
def test_another_lab_keeps_off_a_port_that_is_held(home: Path) -> None:
    """While a server is out on purpose, nobody else may answer its clients."""
    port = BLOCK.next()
    hold(port)
    assert not held(port), "it is our own"
    code = f"from labkit.core.ports import free_port; print(free_port({port}))"
    other = [sys.executable, "-c", code]
    assert int(subprocess.run(other, capture_output=True).stdout) > port
    let_go()
    assert int(subprocess.run(other, capture_output=True).stdout) == port


# --- what the shell says to clients of other servers ---------------------------------------------


def test_the_shells_variables_do_not_reach_the_labs_servers(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGDATESTYLE", "PGCLIENTENCODING", "PGOPTIONS", "PGSERVICE"):
        monkeypatch.setenv(name, "nowhere")
    for name in ("TEMPORAL_ENV", "TEMPORAL_API_KEY", "TEMPORAL_TLS_CLIENT_CERT_PATH"):
        monkeypatch.setenv(name, "nowhere")
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setenv("HOME", "")
    write_env(POSTGRES_PORT=str(free_port(15433)))
    services.start("postgres", "temporal")
    assert asks_postgres()
    assert services.status()["temporal"]["running"]


# --- what others on the machine see --------------------------------------------------------------


def test_nothing_of_a_running_lab_can_be_read_by_others(servers: Path) -> None:
    """The folder lets root's PostgreSQL pass, so that each file and folder in it is closed."""
    services.start()
    assert paths().lab.stat().st_mode & 0o066 == 0
    for path in paths().lab.iterdir():
        assert path.stat().st_mode & 0o077 == 0 or not path.stat().st_size, path.name
    assert (paths().lab / "temporal.db").stat().st_mode & 0o777 == 0o600


# --- files that killed writers left --------------------------------------------------------------

WRITER = """
import os, signal, sys
from pathlib import Path
from labkit.core.files import write_atomically
Path.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path(sys.argv[1]), b"half of it")
"""


@pytest.mark.parametrize(
    "where", ["data/raw", "data/models/m", ".lab", ".lab/changes", "config", "."]
)
def test_what_a_writer_that_was_killed_left_is_deleted(home: Path, where: str) -> None:
    target = home / where / "file"
    killed = subprocess.run([sys.executable, "-c", WRITER, str(target)])
    assert killed.returncode == -signal.SIGKILL
    [left] = target.parent.glob(".labkit-*")
    in_use = left.with_name(f".labkit-{os.getpid()}-abc")
    foreign = left.with_name(".labkit-notes")
    for path in (in_use, foreign):
        path.write_text("not abandoned")
    assert sweep() == ["Deleted 1 unfinished files, which a crash had left."]
    assert not left.exists()
    os.utime(in_use, (1, 1))
    assert len(sweep()) == 1, "no write takes an hour: the pid is another process's now"
    assert foreign.exists(), "that is no name of the lab"
    assert sweep() == []


def test_a_port_that_somebody_had_for_a_moment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was killed still holds its port, and lets go before anybody looks."""
    calls: list[str] = []

    def busy_once(action: str, *options: str, log: Path | None = None) -> None:
        calls.append(action)
        if calls == ["start"]:
            raise LabError('could not bind IPv4 address "127.0.0.1": Address already in use')
        pg_ctl(action, *options, log=log)

    module = importlib.import_module("labkit.services.postgres")
    pg_ctl = module._pg_ctl
    monkeypatch.setattr(module, "_pg_ctl", busy_once)
    services.start("postgres")
    assert calls[:2] == ["start", "start"] and services.status()["postgres"]["running"]
