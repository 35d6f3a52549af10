"""What lies in a watched folder: files to offer, and what is passed over, and why."""

import errno
import hashlib
import os
import signal
import stat
import sys
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path, PurePath
from typing import NamedTuple

from labkit.core.files import open_unfinished
from labkit.core.settings import paths

HIDDEN = (".", "~", "#")
UNFINISHED = (".part", ".crdownload", ".download", ".tmp", ".swp", ".bak")
ARCHIVES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".tar", ".rar")
WORKBOOKS = (".xlsx", ".xls", ".ods", ".numbers")
TABLES = (".data", ".txt", ".tsv", ".tab", ".dat", ".arff", ".json", ".parquet", ".feather")
NOT_DATA = ("readme", "license", "licence", "index", "requirements")


class Stamp(NamedTuple):
    """What changes when a file changes."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, info: os.stat_result) -> "Stamp":
        return cls(info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


class Look:
    """One look at a folder and all below it; ten thousand files take 60 ms.

    Args:
        folder: may itself be a link. Links in it are not followed.
        done: files that need not be seen again, unless their stamp has changed.

    Attributes:
        found: the stamps of the other CSVs, by path.
        passed: why what is passed over is, by path.

    Raises:
        OSError: the folder cannot be read.
    """

    def __init__(self, folder: Path, done: Mapping[str, Stamp]) -> None:
        self.found: dict[str, Stamp] = {}
        self.passed: dict[str, str] = {}
        self._done = done
        self._folders: list[str] = []
        self._look_into(str(folder))
        while self._folders:
            below = self._folders.pop()
            try:
                self._look_into(below)
            except FileNotFoundError:
                pass  # gone meanwhile
            except OSError as err:
                self.passed[below] = f"cannot be read: {err.strerror}. Mend that."

    def _look_into(self, folder: str) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if not entry.name.startswith(HIDDEN):
                        self._see(entry)
                except FileNotFoundError:
                    pass  # gone meanwhile

    def _see(self, entry: os.DirEntry[str]) -> None:
        named = entry.name.lower().endswith(".csv")
        if named and entry.is_file(follow_symlinks=False):
            stamp = Stamp.of(entry.stat(follow_symlinks=False))
            if self._done.get(entry.path) != stamp:
                self.found[entry.path] = stamp
        elif entry.is_dir(follow_symlinks=False):
            self._folders.append(entry.path)
            if named:
                self.passed[entry.path] = "is a folder, not a file. The CSVs in it are read."
        elif named or (entry.is_symlink() and entry.is_dir()):
            self.passed[entry.path] = "is a link or a device, which is not followed. Copy the file."
        elif why := why_unwanted(entry.name):
            self.passed[entry.path] = why


def wanted(relative: PurePath) -> bool:
    """CSVs in any case; nothing hidden or temporary, and nothing in a hidden folder."""
    hidden = any(part.startswith(HIDDEN) for part in relative.parts)
    return relative.name.lower().endswith(".csv") and not hidden


def why_unwanted(name: str) -> str:
    """Why a file that somebody may mean as data is none; empty for what nobody does."""
    path, lower = PurePath(name), name.lower()
    suffix = path.suffix.lower()
    if lower.startswith(NOT_DATA) or lower.endswith(("~", *UNFINISHED)):
        return ""
    if suffix in ARCHIVES:
        return "is an archive. Unpack it, and drop the CSV."
    if suffix in WORKBOOKS:
        return "is a workbook. Export its table as a CSV."
    if suffix in TABLES or ".csv" in lower:
        stem = name[: lower.index(".csv")] if ".csv" in lower else path.stem
        return f"does not end in .csv. If it is a CSV, rename it {stem}.csv"
    return ""


def open_file(path: Path) -> BufferedReader:
    """Open what is still the file that it was: a pipe or a link may have taken its place.

    Raises:
        FileNotFoundError: it is none any more.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        file = os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb")
    except OSError as err:
        if err.errno in (errno.ELOOP, errno.ENXIO):
            raise FileNotFoundError(path) from None
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileNotFoundError(path)
    return file


def being_written(path: Path) -> bool | None:
    """Whether some process has the file open for writing; None where the system cannot tell.

    Linux grants a read lease only on a file that nobody writes to (fcntl(2), F_SETLEASE).
    """
    if sys.platform != "linux":
        return None
    import fcntl

    with open_file(path) as file:
        try:
            # A writer that comes while we hold the lease sends a signal; SIGIO would end us.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except BlockingIOError:
            return True
        except OSError:
            return None
    return False


def take_snapshot(path: Path) -> tuple[Path, str]:
    """Keep the bytes that are there now, under the name of their sha256.

    Returns:
        The copy's path and the sha256. A pipeline reads the copy, so that replacing the file
        afterwards changes nothing. The same bytes are kept once.
    """
    digest = hashlib.sha256()
    handle, unfinished = open_unfinished(paths().processed)
    try:
        with os.fdopen(handle, "wb") as copy, open_file(path) as source:
            while block := source.read(1 << 20):
                digest.update(block)
                copy.write(block)
        target = paths().processed / f"{digest.hexdigest()}.csv"
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return target, digest.hexdigest()
