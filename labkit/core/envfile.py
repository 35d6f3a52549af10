"""``.env``: made on the first start, and edited without touching its other lines."""

import os
import re
import secrets
from collections.abc import Iterable

from cryptography.fernet import Fernet

from labkit.core.files import write_atomically
from labkit.core.settings import REPOSITORY, env_text, paths, read_env


def write_env(**values: str) -> None:
    """Set names in ``.env``, keep every other line as it is, and keep the file private (0600)."""
    put_env_lines(_lines(values))


def env_lines(names: Iterable[str]) -> dict[str, str]:
    """What stands in ``.env`` for some names, to be put back: the lines, or nothing."""
    lines = env_text().splitlines(keepends=True)
    return {name: "".join(line for line in lines if _name(line) == name) for name in names}


def put_env_lines(lines: dict[str, str]) -> None:
    """Let these lines stand in ``.env`` for their names, in the old place, else at the end."""
    write_atomically(paths().env, _with(env_text(), lines).encode(), mode=0o600)


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
