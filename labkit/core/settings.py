"""Every setting of the lab: the environment, then a lesson's changes, then ``.env``.

All are read afresh by each call of :func:`settings`, so that editing ``.env`` is enough: nothing
has to be restarted.
"""

import os
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dotenv.parser import parse_stream
from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError, field_validator

from labkit.core import lesson
from labkit.core.paths import REPOSITORY as REPOSITORY
from labkit.core.paths import Interrupted as Interrupted
from labkit.core.paths import LabError as LabError
from labkit.core.paths import Paths as Paths
from labkit.core.paths import not_mine as not_mine
from labkit.core.paths import paths as paths

if TYPE_CHECKING:
    from temporalio.envconfig import ClientConnectConfig

# A larger CSV is refused, whichever way it comes.
MAX_BYTES = 32 * 2**20
# What decides which Temporal server is asked. The rest (keys, TLS) is for servers of others only.
WHICH_TEMPORAL = tuple(
    f"TEMPORAL_{it}" for it in ("ADDRESS", "NAMESPACE", "CONFIG_FILE", "PROFILE")
)


def _like(pattern: str, what: str, also: Callable[[str], bool] = bool) -> AfterValidator:
    """Texts of one form, and what to say of others."""

    def check(text: str) -> str:
        if not (re.fullmatch(pattern, text) and also(text)):
            raise ValueError(f"{text!r} is not {what}")
        return text

    return AfterValidator(check)


def has_port(address: str) -> bool:
    """It ends like ``127.0.0.1:7233``, in a port that there can be."""
    host, _, port = address.rpartition(":")
    return bool(host) and re.fullmatch("[0-9]{1,5}", port) is not None and 0 < int(port) < 65536


ADDRESS = r"([^\s/,:@]+|\[[0-9A-Fa-f:.]+\]):\d+"
# A name, an IPv4 or IPv6 address, or the folder of a socket.
HOST = r"[^/:@]+|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*|/.*"
URL = r"https?://[^\s/]+(/\S*)?"


class Settings(BaseModel):
    """The names, in capitals, are those of the environment and of ``.env``."""

    postgres_host: Annotated[str, _like(HOST, "a host; its port is POSTGRES_PORT")] = "127.0.0.1"
    postgres_port: int = Field(default=5433, ge=1, le=65535)
    postgres_db: str = "mlops_tracking"
    postgres_user: str = "mlops"
    postgres_password: SecretStr = SecretStr("")
    temporal_address: Annotated[str, _like(ADDRESS, "like 127.0.0.1:7233", has_port)] | None = None
    temporal_namespace: str = "default"
    temporal_task_queue: str = "mlops-task-queue"
    temporal_encryption_key: SecretStr = SecretStr("")
    labkit_postgres: Literal["embedded", "compose", "external"] = "embedded"
    labkit_temporal_cli: Path | None = None
    labkit_ports: int | None = Field(default=None, ge=1024, le=65000)
    labkit_other_files: Literal["coin", "good"] = "coin"
    labkit_speed: float = Field(default=1.0, gt=0, le=1000)
    labkit_approval_days: float = Field(default=30.0, gt=0, le=3650)
    labkit_ui_url: Annotated[str, _like(URL, "like http://127.0.0.1:8233")] | None = None
    labkit_architecture: str = "AbaloneNet-7"
    labkit_opaque_ids: bool = False
    labkit_id_key: SecretStr = SecretStr("")
    labkit_codec_token: SecretStr = SecretStr("")

    @field_validator("*", mode="before")
    @classmethod
    def _can_be_seen(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.isprintable():
            raise ValueError(
                "it holds a line break, or another character that cannot be seen (in double "
                "quotes a backslash makes them; in single quotes it is a backslash)"
            )
        return value


def settings() -> Settings:
    """What is set now, with the lab's defaults for the rest.

    Raises:
        LabError: a value is not of its kind, named with its place and the mend.
    """
    return _checked({name.lower(): value for name, value in known().items() if value})


def _checked(values: dict[str, str]) -> Settings:
    try:
        return Settings.model_validate(values)
    except ValidationError as err:
        first = err.errors()[0]
        name, why = str(first["loc"][0]).upper(), first["msg"].removeprefix("Value error, ")
        where = str(paths().env) if source_of(name) == ".env" else source_of(name)
        raise LabError(
            f"{name} in {where} is not usable: {why}. Mend it there; .env.example shows a value "
            f"that works."
        ) from None


def known() -> dict[str, str]:
    """Every name that is set, with the value that counts: the environment beats a lesson's
    changes, and those beat ``.env``. An empty variable of the environment is none.
    """
    environment = {name: value for name, value in os.environ.items() if value}
    return read_env() | lesson.changed_env() | environment


def source_of(name: str) -> str:
    """Where the value of a setting comes from, or may be set, as messages say it."""
    if os.environ.get(name):
        return "the environment"
    if name in lesson.changed_env():
        return "a lab.env block"
    if name == "TEMPORAL_ADDRESS" and not read_env().get(name):
        return known().get("TEMPORAL_CONFIG_FILE") or "temporal.toml"
    return ".env"


def read_env() -> dict[str, str]:
    """The names and values in ``.env``; an absent file has none.

    Raises:
        LabError: the file cannot be read, with the mend.
    """
    found = {}
    for line in parse_stream(StringIO(env_text())):
        if line.error:
            raise LabError(
                f"Line {line.original.line} of {paths().env} is not NAME=value, or a quote is not "
                f"closed. Mend it there."
            )
        if line.key:
            found[line.key] = line.value or ""
    return found


def env_text() -> str:
    try:
        return paths().env.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise LabError(f"{paths().env} is not UTF-8. Save it as UTF-8.") from None
    except PermissionError:
        raise LabError(not_mine(paths().env)) from None
    except OSError as err:
        raise LabError(f"{paths().env} cannot be read: {err.strerror}. Mend that.") from None


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
    import yaml

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
    if type(port) is not int or not 0 < port < 65536:
        path = paths().config / f"{environment}.yml"
        raise LabError(f"{path} must name a port from 1 to 65535, as in 'port: 8080'.")
    return port


def temporal_profile() -> "ClientConnectConfig":
    """How to reach Temporal: the settings, and the profiles of ``temporalio.envconfig``.

    An absent ``target_host`` means the lab's own dev server. Then only the namespace is there:
    keys and certificates are meant for another server.

    Raises:
        LabError: the profile cannot be read, or its address is not host:port.
    """
    from temporalio.envconfig import ClientConfig

    found = {name: value for name, value in known().items() if value}
    which = {name: value for name, value in found.items() if name in WHICH_TEMPORAL}
    try:
        profile = ClientConfig.load_client_connect_config(override_env_vars=which)
        if "target_host" not in profile:
            return {"namespace": profile.get("namespace") or "default"}
        profile = ClientConfig.load_client_connect_config(override_env_vars=found)
    except Exception as err:
        raise LabError(
            f"The Temporal profile cannot be read: {err}. Mend TEMPORAL_CONFIG_FILE, "
            f"TEMPORAL_PROFILE or the TOML file they name."
        ) from None
    _checked({"temporal_address": profile["target_host"]})
    return profile
