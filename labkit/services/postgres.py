"""PostgreSQL: the embedded one, the one in docker-compose.yml, or one that exists elsewhere."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg2
from temporalio.exceptions import ApplicationError

from labkit.core.account import no_name
from labkit.core.envfile import write_env
from labkit.core.files import write_atomically
from labkit.core.ports import PortTaken, is_free, with_free_ports
from labkit.core.process import Process, find_processes, until
from labkit.core.record import Server, changing
from labkit.core.settings import REPOSITORY, LabError, Settings, paths, read_env, settings
from labkit.pipeline.work.tracking import database
from labkit.services.base import ServerEnded, Service, fresh_log, port_for, run, wait_ready
from labkit.services.postgres_owner import as_owner, binary, data_folder

DYING_SECONDS = 1
PULL_SECONDS = 600  # docker may have to fetch the image first

SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "lc_messages": "C",
    "password_encryption": "scram-sha-256",
}


class Postgres(Service):
    """``python -m labkit start postgres``."""

    name = "postgres"
    records = ("postgres",)

    def start(self) -> list[str]:
        config = settings()
        if config.labkit_postgres == "embedded":
            return self._start_embedded(config)
        self._end_embedded()
        with changing() as state:
            state.services.pop(self.name, None)
        if config.labkit_postgres == "compose":
            _compose("up", "--detach", "--wait", "postgres")
        notes = _apply_schema()
        address = f"{config.postgres_host}:{config.postgres_port}"
        self.record(postgres=Server(address, external=True))
        return notes

    def stop(self, hard: bool = False) -> None:
        if _asked("LABKIT_POSTGRES") == "external":
            raise LabError(
                "PostgreSQL is not the lab's (LABKIT_POSTGRES=external), so the lab does not "
                "stop it."
            )
        self.end(hard)

    def end(self, hard: bool = False) -> None:
        if _asked("LABKIT_POSTGRES") == "compose":
            _compose("kill" if hard else "stop", "postgres")
        self._end_embedded("immediate" if hard else "fast")

    def restore_password(self) -> list[str]:
        """Put the password that the data were made with into an ``.env`` that has lost it."""
        if not _password_file().exists():
            return []
        write_env(POSTGRES_PASSWORD=_password_file().read_text(encoding="utf-8"))
        return [f"The password of PostgreSQL is in .env again, from {_password_file().name}."]

    def _start_embedded(self, config: Settings) -> list[str]:
        running = _survivor() if self.recorded_alive() else None
        if running:
            self._record(*running)
            notes, (process, _) = _apply_schema(), running
            if not notes or not until(lambda: not process.alive(), DYING_SECONDS):
                return notes  # else it was killed at this moment, and is started anew
        for left in data_folder().parent.glob("postgres.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        if not data_folder().exists():
            _initdb(config)
        return with_free_ports(self._start)

    def _start(self) -> list[str]:
        if survivor := _survivor():
            process, port = survivor
            self._record(process, port)
            with suppress(ServerEnded):
                wait_ready(self.name, _ready, process)
                return [
                    f"Took over PostgreSQL (pid {process.pid}), which a crash had left running."
                ]
        notes = _clear()
        config = settings()
        port = port_for(self.name, config.postgres_port)
        if port != config.postgres_port and os.environ.get("POSTGRES_PORT"):
            raise LabError(
                f"Port {config.postgres_port} is taken, and POSTGRES_PORT in the environment asks "
                f"for it. Unset it, and the lab takes the next free one."
            )
        notes += _before_it_can_be_reached(config)
        log = fresh_log(self.name)
        try:
            _pg_ctl("start", "--wait", "--timeout=30", f"--options=-p {port}", log=log)
        except LabError as err:
            # Whoever had the port may have ended meanwhile: one that was killed, say.
            taken = not is_free(port) or "Address already in use" in str(err)
            if _survivor() or taken:
                raise PortTaken(self.name) from None
            raise
        started = _survivor()
        if not started:
            raise LabError(f"PostgreSQL ended as soon as it had started. See {log}.")
        self._record(*started)
        return notes

    def _record(self, process: Process, port: int) -> None:
        """Put a running server on record: clients find its port there."""
        asked = settings().postgres_port
        self.record(postgres=Server(f"127.0.0.1:{port}", process, wanted_port=asked))

    def _end_embedded(self, mode: str = "fast") -> None:
        """Stop the embedded server; after the mode ``immediate``, the next start recovers."""
        if _survivor():
            try:
                _pg_ctl("stop", "--wait", f"--mode={mode}")
            except LabError:
                if _survivor():  # it did not just end by itself
                    raise
        super().end()


def _asked(name: str) -> str:
    """One setting, even while others are wrong or none can be read: stopping must work then."""
    with suppress(LabError):
        return os.environ.get(name) or read_env().get(name, "")
    return ""


def _initdb(config: Settings) -> None:
    """Make the server's data: all of it, or nothing that a later start would find."""
    if problem := no_name():
        raise LabError(problem)
    secret = config.postgres_password.get_secret_value()
    if not secret:
        raise LabError(f"POSTGRES_PASSWORD is empty in {paths().env}. Mend: write one there.")
    folder = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=data_folder().parent))
    data, password = folder / "data", folder / "password"
    data.mkdir(mode=0o700)
    password.write_text(secret + "\n", encoding="utf-8")
    owner = as_owner()
    if owner:
        for path in (folder, data, password):
            os.chown(path, owner["user"], owner["group"])
    arguments = [binary("initdb"), f"--pgdata={data}", f"--pwfile={password}"]
    arguments += [f"--username={config.postgres_user}", "--auth=scram-sha-256"]
    arguments += ["--encoding=UTF8", "--locale=C", "--no-sync"]
    for name, value in SERVER_SETTINGS.items():
        arguments += ["--set", f"{name}={value}"]
    try:
        run(arguments, "initdb", **owner)
        _single_user(data, "postgres", f"CREATE DATABASE {_quoted(config.postgres_db)}")
        write_atomically(_password_file(), secret.encode(), mode=0o600)
        data.rename(data_folder())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _quoted(name: str) -> str:
    """An SQL identifier, safe whatever the settings hold."""
    return '"' + name.replace('"', '""') + '"'


def _before_it_can_be_reached(config: Settings) -> list[str]:
    """Make what is missing while nobody can ask: whoever is answered by it finds it complete.

    A run that waits asks as soon as the port is open, and an answer such as "there is no such
    table" would end it.
    """
    statements = (paths().config / "schema.sql").read_text(encoding="utf-8")
    try:
        _single_user(data_folder(), config.postgres_db, statements)
    except LabError as err:
        return [f"PostgreSQL's tables could not be checked: {err}"]
    return []


def _single_user(folder: Path, database: str, statements: str) -> None:
    """Run statements while no server runs on the data, as only its owner can."""
    said = run(
        [binary("postgres"), "--single", "-j", "-D", str(folder), database],
        "PostgreSQL in single-user mode",
        input=f"{statements.rstrip().rstrip(';')};\n\n".encode(),
        **as_owner(),
    )
    if errors := [line for line in said.splitlines() if "ERROR:" in line]:
        raise LabError(f"PostgreSQL refuses what it was told: {errors[0]}")


def _password_file() -> Path:
    """The password that the data were made with, private as ``.env`` is."""
    return paths().lab / "postgres.password"


def _pg_ctl(action: str, *options: str, log: Path | None = None) -> None:
    arguments = [binary("pg_ctl"), action, f"--pgdata={data_folder()}", *options]
    run(arguments, f"pg_ctl {action}", log, **as_owner())


def _pid_file() -> Path:
    """The file that a running server keeps: pid on line 1, port on line 4, state on line 8."""
    return data_folder() / "postmaster.pid"


def _survivor() -> tuple[Process, int] | None:
    """The process and port of the server that runs on the lab's data, recorded or not."""
    try:
        lines = _pid_file().read_text().splitlines()
        pid, port = int(lines[0]), int(lines[3])
        ours = str(data_folder()) in psutil.Process(pid).cmdline()
    except (FileNotFoundError, ValueError, IndexError, psutil.Error):
        return None
    process = Process.of(pid)
    return (process, port) if process and ours else None


def _ready() -> bool:
    with suppress(FileNotFoundError):
        return "ready" in _pid_file().read_text().split()
    return False


def _clear() -> list[str]:
    """Clear what a killed server left: its children, which may still write, and its pid file."""
    if not _pid_file().exists():
        return []
    folder = str(data_folder())
    for child in find_processes(lambda p: "postgres" in p.name() and p.cwd() == folder):
        child.end()
    _pid_file().unlink(missing_ok=True)
    return ["PostgreSQL had been killed; it recovers from its log."]


def _apply_schema() -> list[str]:
    """Make the tables that are missing. Wrong settings are a note: a lesson may be under way."""
    try:
        with database() as connection, connection.cursor() as cursor:
            cursor.execute((paths().config / "schema.sql").read_text(encoding="utf-8"))
    except (ApplicationError, psycopg2.Error) as err:
        reason = err.message if isinstance(err, ApplicationError) else str(err).strip()
        return [f"PostgreSQL runs, but the tables could not be checked: {reason}"]
    return []


def _compose(*arguments: str) -> None:
    docker = shutil.which("docker")
    if not docker:
        raise LabError("LABKIT_POSTGRES=compose needs Docker. Mend: LABKIT_POSTGRES=embedded")
    run(
        [docker, "compose", "--env-file", str(paths().env), *arguments],
        f"docker compose {' '.join(arguments)}",
        seconds=PULL_SECONDS,
        cwd=REPOSITORY,
    )
