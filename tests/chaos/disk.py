"""Disks that can be filled, or be slow, in the most real way that this system allows."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

MEBIBYTE = 2**20


class Mounted:
    """A small file system of its own on a folder. Needs root on Linux."""

    kind = ""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self.folder, self.mebibytes = folder, mebibytes
        self.name = f"{self.kind} of its own on {folder.name}/, filled up by a file (ENOSPC)"
        folder.mkdir(parents=True, exist_ok=True)
        self.mount()

    def mount(self) -> None:
        raise NotImplementedError

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


class Tmpfs(Mounted):
    """In memory, where to write costs nothing."""

    kind = "a tmpfs"

    def mount(self) -> None:
        options = f"size={self.mebibytes}m,mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=True)


class Image(Mounted):
    """In a file beside the folder: on the real disk, where to sync takes its time."""

    kind = "an ext4"

    def mount(self) -> None:
        image = self.folder.with_name("disk.img")
        with image.open("wb") as file:
            file.truncate(self.mebibytes * MEBIBYTE)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, self.folder], check=True)
        (self.folder / "lost+found").rmdir()


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
    """This system has no way: then the disk is never full, and the report says so."""

    name = "NONE: this system has no way to do that, SO IT WAS NOT FILLED"

    @contextmanager
    def full(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        pass


Disk = Tmpfs | Image | Quota | Never
BUSY = """
import os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
while True:
    os.pwrite(file, os.urandom(2**20) * 8, 0)
    os.fsync(file)
"""
BUSY_WRITERS = 2


@contextmanager
def slow(folder: Path) -> Iterator[None]:
    """Other programs write to the disk of a folder, and wait for it, all the time."""
    names = [folder / f"busy-{number}" for number in range(BUSY_WRITERS)]
    writers = [subprocess.Popen([sys.executable, "-c", BUSY, name]) for name in names]
    try:
        yield
    finally:
        for writer, name in zip(writers, names, strict=True):
            writer.kill()
            writer.wait()
            name.unlink(missing_ok=True)


def make_disk(folder: Path, mebibytes: int, workers: Callable[[], list[int]]) -> Disk:
    """A disk on ``data/``: what fills it is between the worker and its files."""
    if sys.platform != "linux":
        return Never()
    return _mounted(Tmpfs, folder, mebibytes) or Quota(workers)


def make_server_disk(folder: Path, mebibytes: int) -> Disk:
    """A disk on ``.lab/``, where the servers keep what they know."""
    return _mounted(Image, folder, mebibytes) or Never()


def _mounted(kind: type[Mounted], folder: Path, mebibytes: int) -> Any:
    if sys.platform != "linux" or os.geteuid() != 0:
        return None
    try:
        return kind(folder, mebibytes)
    except (OSError, subprocess.CalledProcessError):  # a container that may not mount
        return None
