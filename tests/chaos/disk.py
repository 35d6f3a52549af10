"""A disk below ``data/`` that can be filled, in the most real way that this system allows."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

MEBIBYTE = 2**20


class Tmpfs:
    """A small file system of its own on the folder. Needs root on Linux."""

    name = "a tmpfs of its own on data/, filled up by a file (ENOSPC)"

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        options = f"size={mebibytes}m,mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        ballast = self.folder / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                free = os.statvfs(self.folder)
                os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - MEBIBYTE)
                file.seek(0, os.SEEK_END)
                while True:  # to the last byte
                    file.write(bytes(4096))
            yield
        finally:
            ballast.unlink()

    def close(self) -> None:
        subprocess.run(["umount", self.folder], check=True)


class Quota:
    """The workers may write no file larger than a few bytes. Needs Linux."""

    name = "RLIMIT_FSIZE on the worker processes (EFBIG), since only root may mount a tmpfs"

    def __init__(self, workers: Callable[[], list[int]]) -> None:
        self.workers = workers

    @contextmanager
    def full(self) -> Iterator[None]:
        pids = self.workers()
        for pid in pids:
            self._limit(pid, 1024)
        try:
            yield
        finally:
            for pid in pids:
                self._limit(pid, psutil.RLIM_INFINITY)

    def _limit(self, pid: int, size: int) -> None:
        try:
            process = psutil.Process(pid)
            _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (size, hard))
        except psutil.NoSuchProcess:
            pass  # killed meanwhile; the next one has no limit

    def close(self) -> None:
        pass


class Never:
    """This system has neither: then the disk is never full, and the report says so."""

    name = "NONE: this system has no tmpfs and no limits on another process, SO IT WAS NOT FILLED"

    @contextmanager
    def full(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        pass


def make_disk(
    folder: Path, mebibytes: int, workers: Callable[[], list[int]]
) -> Tmpfs | Quota | Never:
    if sys.platform != "linux":
        return Never()
    if os.geteuid() == 0:
        try:
            return Tmpfs(folder, mebibytes)
        except subprocess.CalledProcessError:  # a container that may not mount
            pass
    return Quota(workers)
