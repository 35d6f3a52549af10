"""Every setting and every path of the lab, in one place.

Settings come from the environment, then from ``.env``. Both are read afresh by each call of
:func:`settings`, so that editing ``.env`` is enough: nothing has to be restarted.
"""

import os
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import yaml
from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.envconfig import ClientConfig, ClientConnectConfig

REPOSITORY = Path(__file__).resolve().parents[2]


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
    labkit_ports: int | None = Field(default=None, ge=1024, le=65000)
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


def read_env() -> dict[str, str]:
    """The names and values in ``.env``; an absent file has none.

    Raises:
        LabError: the file cannot be read, with the mend.
    """
    return {name: value or "" for name, value in dotenv_values(stream=StringIO(env_text())).items()}


def env_text() -> str:
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
