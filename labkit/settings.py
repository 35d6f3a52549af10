"""Every setting and every path of the lab, in one place.

Settings come from the environment, then from ``.env``. Both are read afresh by each call of
:func:`settings`, so that editing ``.env`` is enough: nothing has to be restarted.
"""

import hashlib
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml
from cryptography.fernet import Fernet
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.envconfig import ClientConfig, ClientConnectConfig

REPOSITORY = Path(__file__).resolve().parents[1]
UNFINISHED = ".labkit-"
ABANDONED_SECONDS = 3600


class LabError(Exception):
    """Something a participant can mend. The message says what is wrong and how to mend it."""


class Settings(BaseSettings):
    """What the environment and ``.env`` say, with the lab's defaults for the rest."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    postgres_host: str = "127.0.0.1"
    postgres_port: int = Field(default=5433, ge=1, le=65535)
    postgres_db: str = "mlops_tracking"
    postgres_user: str = "mlops"
    postgres_password: SecretStr = SecretStr("")
    temporal_address: str | None = None
    temporal_namespace: str = "default"
    temporal_task_queue: str = "mlops-task-queue"
    temporal_encryption_key: SecretStr = SecretStr("")
    labkit_postgres: Literal["embedded", "compose", "external"] = "embedded"
    labkit_temporal_cli: Path | None = None
    labkit_watcher: Literal["events", "polling"] = "events"
    labkit_speed: float = Field(default=1.0, gt=0, le=1000)
    labkit_approval_days: float = Field(default=30.0, gt=0, le=3650)
    labkit_ui_url: str | None = None
    labkit_architecture: str = "AbaloneNet-7"
    labkit_opaque_ids: bool = False
    labkit_id_key: SecretStr = SecretStr("")
    labkit_codec_token: SecretStr = SecretStr("")


@dataclass(frozen=True)
class Paths:
    """Where everything lies, below one root: the checkout, or ``LABKIT_HOME`` when it is set."""

    root: Path

    @property
    def env(self) -> Path:
        return self.root / ".env"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def raw(self) -> Path:
        return self.data / "raw"

    @property
    def processed(self) -> Path:
        return self.data / "processed"

    @property
    def models(self) -> Path:
        return self.data / "models"

    @property
    def deployments(self) -> Path:
        return self.data / "deployments"

    @property
    def lab(self) -> Path:
        return self.root / ".lab"

    @property
    def logs(self) -> Path:
        return self.lab / "logs"

    @property
    def state(self) -> Path:
        return self.lab / "state.json"

    def name(self, path: Path) -> str:
        """How messages name a file: relative to the root, so that they mean the same anywhere."""
        relative = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return relative.as_posix().encode("utf-8", "backslashreplace").decode()

    def find(self, name: str) -> Path:
        """The file that a message names: relative to the root, or absolute."""
        return self.root / name

    @property
    def example(self) -> Path:
        """The committed sample that ``Lab.drop`` copies when no other file is named."""
        return REPOSITORY / "data" / "examples" / "abalone.csv"

    def make(self) -> None:
        """Create the folders that runs write to."""
        for folder in (self.raw, self.processed, self.models, self.deployments, self.logs):
            folder.mkdir(parents=True, exist_ok=True)


def paths() -> Paths:
    return Paths(Path(os.environ.get("LABKIT_HOME") or REPOSITORY).resolve())


def settings() -> Settings:
    """Read the environment and ``.env``.

    Raises:
        LabError: a value is not of its kind, named with the file and the mend.
    """
    read_env()  # complains in words where the next line would not
    try:
        return Settings(_env_file=paths().env)  # type: ignore[call-arg]
    except ValidationError as err:
        first = err.errors()[0]
        name = str(first["loc"][0]).upper()
        raise LabError(
            f"{name} in the environment or in {paths().env} is not usable: {first['msg']}. "
            f"Mend it there; .env.example shows a value that works."
        ) from None


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a whole file or nothing: readers see the old bytes or the new ones, never half."""
    handle, unfinished = open_unfinished(path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        unfinished.chmod(mode)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Add a line of JSON to a ledger that several processes write.

    One short write in append mode: their lines do not mix. The line break comes first, so that a
    line which a full disk cut short spoils no other.

    Raises:
        OSError: the disk does not take it.
    """
    with path.open("ab", buffering=0) as file:
        file.write(b"\n" + json.dumps(content).encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of such a ledger; an absent one has none."""
    lines = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError):
            lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict)]


def open_unfinished(folder: Path) -> tuple[int, Path]:
    """A hidden file to write before it is renamed into place. Its name says who writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=f"{UNFINISHED}{os.getpid()}-")
    return handle, Path(name)


def find_abandoned() -> list[Path]:
    """The unfinished files of writers that were killed: only the lab's own, and none in use.

    The system may have given the writer's pid to another process; but no write takes an hour.
    """
    root, name = paths(), f"{UNFINISHED}*"
    near = [folder.glob(name) for folder in (root.root, root.config, root.lab, root.lab / "undo")]
    abandoned = []
    for path in chain(*near, root.data.rglob(name)):
        with suppress(OSError, ValueError):  # finished meanwhile, or not the lab's
            pid = int(path.name.removeprefix(UNFINISHED).split("-")[0])
            old = time.time() - path.lstat().st_mtime > ABANDONED_SECONDS
            if old or not psutil.pid_exists(pid):
                abandoned.append(path)
    return abandoned


def sweep() -> list[str]:
    """Delete the unfinished files of writers that were killed.

    Returns:
        A line for the participant, when there were any.
    """
    found = find_abandoned()
    for path in found:
        with suppress(OSError):  # another user's
            path.unlink()
    return [f"Deleted {len(found)} unfinished files, which a crash had left."] if found else []


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_env() -> dict[str, str]:
    """The names and values in ``.env``; an absent file has none.

    Raises:
        LabError: the file cannot be read, with the mend.
    """
    return {name: value or "" for name, value in dotenv_values(stream=StringIO(_env())).items()}


def _env() -> str:
    try:
        return paths().env.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise LabError(f"{paths().env} is not UTF-8. Save it as UTF-8.") from None
    except PermissionError:
        raise LabError(not_mine(paths().env)) from None


def not_mine(path: Path) -> str:
    """What to say of a file that another user made, most often root."""
    return f"{path} belongs to another user. Mend: sudo chown -R $(id -un) {paths().root}"


def write_env(**values: str) -> None:
    """Set names in ``.env``, keep every other line as it is, and keep the file private (0600)."""
    put_env_lines(_lines(values))


def env_lines(names: Iterable[str]) -> dict[str, str]:
    """What stands in ``.env`` for some names, to be put back: the lines, or nothing."""
    lines = _env().splitlines(keepends=True)
    return {name: "".join(line for line in lines if _name(line) == name) for name in names}


def put_env_lines(lines: dict[str, str]) -> None:
    """Let these lines stand in ``.env`` for their names, in the old place, else at the end."""
    write_atomically(paths().env, _with(_env(), lines).encode(), mode=0o600)


def _with(text: str, lines: dict[str, str]) -> str:
    rest, result = dict(lines), ""
    for line in text.splitlines(keepends=True):
        name = _name(line)
        result += rest.pop(name, "") if name in lines else line
    new = "".join(rest.values())
    return result + ("\n" if new and result and not result.endswith("\n") else "") + new


def _name(line: str) -> str:
    return line.split("=", 1)[0].removeprefix("export ").strip()


def _lines(values: dict[str, str]) -> dict[str, str]:
    return {name: f"{name}={_quoted(value)}\n" for name, value in values.items()}


def _quoted(value: str) -> str:
    """In quotes where an env file needs them."""
    if re.fullmatch(r"[\w@%+=:,./-]*", value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def ensure_env() -> bool:
    """Make ``.env`` from ``.env.example`` with a fresh password and keys.

    One that is there gets only the secrets that it lacks: a crash may have left half of it.

    Returns:
        True when this call made the password, which PostgreSQL must be told.
    """
    path = paths().env
    secret = {
        "LABKIT_CODEC_TOKEN": secrets.token_urlsafe(24),
        "LABKIT_ID_KEY": secrets.token_urlsafe(24),
        "POSTGRES_PASSWORD": secrets.token_urlsafe(18),
        "TEMPORAL_ENCRYPTION_KEY": Fernet.generate_key().decode(),
    }
    if path.exists() and path.read_bytes().strip():
        lacking = {name: secret[name] for name in lacking_secrets()}
        if lacking:
            write_env(**lacking)
        return "POSTGRES_PASSWORD" in lacking
    example = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    write_atomically(path, _with(example, _lines(secret)).encode(), mode=0o600)
    return True


def lacking_secrets() -> list[str]:
    """The secrets that ``.env`` should hold and does not.

    An empty password or key is somebody's wish, and is left alone, as is all of it where the
    environment or another PostgreSQL is in use.
    """
    present, known = read_env(), read_env() | dict(os.environ)
    lacking = [name for name in ("LABKIT_CODEC_TOKEN", "LABKIT_ID_KEY") if not present.get(name)]
    lacking += [name for name in ("TEMPORAL_ENCRYPTION_KEY",) if name not in known]
    if known.get("LABKIT_POSTGRES") in (None, "", "embedded") and "POSTGRES_PASSWORD" not in known:
        lacking.append("POSTGRES_PASSWORD")
    return lacking


def opaque_key() -> str:
    """What workflow ids are hashed with when they shall not name the file; empty when they may.

    It is a key of its own: an id must stay the same when encryption keys are rotated, or every
    file in ``data/raw`` would look new.
    """
    config = settings()
    return config.labkit_id_key.get_secret_value() if config.labkit_opaque_ids else ""


def config_file(name: str) -> dict[str, Any]:
    """Read a YAML file of ``config/``.

    Raises:
        LabError: the file is missing, not YAML, or not a mapping.
    """
    path = paths().config / name
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f"{path} is missing. Restore it with: git checkout config/{name}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise LabError(f"{path} is not valid YAML: {err}. Mend the line it names.") from None
    if not isinstance(content, dict):
        raise LabError(f"{path} must hold 'name: value' lines. See git show HEAD:config/{name}")
    return content


def recorded_address(service: str) -> str | None:
    """The address that ``.lab/state.json`` records for a server, or None."""
    try:
        state = json.loads(paths().state.read_text(encoding="utf-8"))
        return state["services"][service]["address"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def model_server_port(environment: str) -> int:
    """The port that ``config/dev.yml`` or ``config/prod.yml`` asks for.

    Raises:
        LabError: it names none.
    """
    port = config_file(f"{environment}.yml").get("port")
    if not isinstance(port, int) or not 0 < port < 65536:
        path = paths().config / f"{environment}.yml"
        raise LabError(f"{path} must name a port from 1 to 65535, as in 'port: 8080'.")
    return port


def model_server_url(environment: str) -> str:
    """Where the model server of ``dev`` or ``prod`` answers: as recorded, else as configured."""
    if address := recorded_address(environment):
        return address
    host = config_file(f"{environment}.yml").get("host", "127.0.0.1")
    return f"http://{host}:{model_server_port(environment)}"


def temporal_profile() -> ClientConnectConfig:
    """How to reach Temporal: the environment, ``.env`` and ``temporalio.envconfig`` profiles.

    An absent ``target_host`` means the lab's own dev server. The settings of the lab that the
    profile does not know (the task queue) are in :func:`settings`.
    """
    known = [*read_env().items(), *os.environ.items()]
    try:
        return ClientConfig.load_client_connect_config(
            override_env_vars={name: value for name, value in known if value}
        )
    except Exception as err:
        raise LabError(
            f"The Temporal profile cannot be read: {err}. Mend TEMPORAL_CONFIG_FILE, "
            f"TEMPORAL_PROFILE or the TOML file they name."
        ) from None
