"""Files written whole or not at all, and what a killed writer left of them."""

import errno
import hashlib
import os
import tempfile
import time
from contextlib import suppress
from itertools import chain
from pathlib import Path

import psutil

from labkit.core.paths import paths

UNFINISHED = ".labkit-"
ABANDONED_SECONDS = 3600
# No file can be made in the folder, or none renamed to the name, where a file is mounted alone.
IN_PLACE = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a whole file or nothing: readers see the old bytes or the new ones, never half.

    A link stays, and its file is written. A file that cannot be replaced (a bind mount, a folder
    of another user's) is written in place.

    Raises:
        OSError: the disk does not take it, or the file is another user's.
    """
    target = Path(os.path.realpath(path))
    try:
        _replace(target, content, mode)
    except OSError as err:
        if err.errno not in IN_PLACE or not target.is_file():
            raise
        with target.open("r+b") as file:
            file.write(content)
            file.truncate()
        target.chmod(mode)


def _replace(target: Path, content: bytes, mode: int) -> None:
    handle, unfinished = open_unfinished(target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        unfinished.chmod(mode)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_once(path: Path, content: bytes) -> bytes:
    """Write a whole file unless it is there already.

    Returns:
        What is in it then: the first writer's content.
    """
    handle, unfinished = open_unfinished(path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        unfinished.chmod(0o644)
        try:
            os.link(unfinished, path)
        except OSError:  # it is there, or the file system has no links
            if not path.exists():
                unfinished.replace(path)
        return path.read_bytes()
    finally:
        unfinished.unlink(missing_ok=True)


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
    folders = {root.root, root.config, root.lab, root.lab / "changes", root.env.resolve().parent}
    abandoned = []
    for path in chain(*(folder.glob(name) for folder in folders), root.data.rglob(name)):
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
