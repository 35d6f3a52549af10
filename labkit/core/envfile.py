"""``.env``: made on the first start, and edited without touching its other lines.

python-dotenv's parser finds the lines. Its ``set_key`` would write the file once a name, replace a
bind mount, and change the line breaks of the other lines.
"""

import base64
import re
import secrets
from io import StringIO

from dotenv.parser import parse_stream

from labkit.core.files import write_atomically
from labkit.core.settings import REPOSITORY, LabError, env_text, known, paths, read_env


def write_env(**values: str) -> None:
    """Set names in ``.env``, keep every other line as it is, and keep the file private (0600).

    Raises:
        LabError: the file cannot be read or written, with the mend.
    """
    _write(env_text(), values)


def _write(text: str, values: dict[str, str]) -> None:
    rest, result = dict(values), ""
    for line in parse_stream(StringIO(text)):
        old = line.original.string
        if line.key in values:
            result += old[: len(old) - len(old.lstrip())]  # the empty lines before it
            result += _line(line.key, rest.pop(line.key)) if line.key in rest else ""
        else:
            result += old
    if rest and result and not result.endswith("\n"):
        result += "\n"
    result += "".join(_line(name, value) for name, value in rest.items())
    try:
        write_atomically(paths().env, result.encode(), mode=0o600)
    except OSError as err:
        raise LabError(f"{paths().env} cannot be written: {err.strerror}. Mend that.") from None


def _line(name: str, value: str) -> str:
    """In quotes where an env file needs them."""
    if not re.fullmatch(r"[\w@%+=:,./-]*", value):
        value = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return f"{name}={value}\n"


def ensure_env() -> bool:
    """Make ``.env`` from ``.env.example`` with a fresh password and keys.

    One that is there gets only the secrets that it lacks: a crash may have left half of it.

    Returns:
        True when this call made the password, which PostgreSQL must be told.
    """
    secret = {
        "LABKIT_CODEC_TOKEN": secrets.token_urlsafe(24),
        "LABKIT_ID_KEY": secrets.token_urlsafe(24),
        "POSTGRES_PASSWORD": secrets.token_urlsafe(18),
        "TEMPORAL_ENCRYPTION_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    if not (text := env_text()).strip():
        _write((REPOSITORY / ".env.example").read_text(encoding="utf-8"), secret)
        return True
    if lacking := {name: secret[name] for name in lacking_secrets()}:
        _write(text, lacking)
    return "POSTGRES_PASSWORD" in lacking


def lacking_secrets() -> list[str]:
    """The secrets that ``.env`` should hold and does not.

    An empty password or key is somebody's wish, and is left alone, as is all of it where the
    environment or another PostgreSQL is in use.
    """
    present, found = read_env(), known()
    lacking = [name for name in ("LABKIT_CODEC_TOKEN", "LABKIT_ID_KEY") if not present.get(name)]
    lacking += [name for name in ("TEMPORAL_ENCRYPTION_KEY",) if name not in found]
    if (found.get("LABKIT_POSTGRES") or "embedded") == "embedded":
        lacking += [name for name in ("POSTGRES_PASSWORD",) if name not in found]
    return lacking
