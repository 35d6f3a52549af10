"""The watcher: a CSV that is complete in ``data/raw`` starts a workflow, once."""

import asyncio
import errno
import hashlib
import logging
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from labkit.core.files import open_unfinished, sweep
from labkit.core.settings import LabError, opaque_key, paths, settings
from labkit.pipeline.messages import WORKFLOW_TYPE, PipelineInput, ProprietaryConfig
from labkit.pipeline.names import workflow_id

log = logging.getLogger("labkit.watcher")

# Linux tells when a file is closed. The 20 ms are for tools that set its time right after.
CLOSED_SECONDS = 0.02
# Elsewhere, and on file systems without events, a file is complete when it stopped changing.
QUIET_SECONDS = 1.0
POLL_SECONDS = 1.0
RETRY_SECONDS = 1.0
FILES_AT_ONCE = 8
# A step of the workflow's code takes milliseconds. One that died with its worker is due again
# after this, not after Temporal's ten seconds.
TASK_TIMEOUT = timedelta(seconds=5)


@dataclass(frozen=True)
class Stamp:
    """What changes when a file changes."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        info = path.stat()
        return cls(info.st_ino, info.st_size, info.st_mtime_ns)


class Watcher:
    """Starts a workflow for each complete CSV in a folder and below.

    The workflow's id is a function of the file and its modification time, and Temporal accepts
    an id once. So the watcher needs no memory: when it starts it offers every file it finds, and
    the server knows which ones it has seen.
    """

    def __init__(self, client: Client, folder: Path | None = None) -> None:
        self.client = client
        self.folder = folder or paths().raw
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(FILES_AT_ONCE)
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._again: set[Path] = set()
        self._said: set[str] = set()
        self._open = False
        self._polling = settings().labkit_watcher == "polling"
        self._sees_close = sys.platform == "linux" and not self._polling

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Watcher"]:
        """Watch while the block lasts; files that are there already are offered first.

        Raises:
            LabError: the system gives no file events; with the mend.
        """
        sweep()
        self._open = True
        self._watched = self._observe()
        staying = self._loop.create_task(self._stay_on_it())
        try:
            self._offer_all(self.folder)
            log.info("watching %s", self.folder)
            yield self
        finally:
            self._open = False
            tasks = [staying, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._watched[0].stop()
            self._watched[0].join(5)

    async def _stay_on_it(self) -> None:
        """Events end with the folder. When it was deleted, or replaced, watch the new one."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                observer, identity = self._watched
                # A new folder may well get the number of the old one; but events have ended then.
                lives = all(emitter.should_keep_running() for emitter in observer.emitters)
                if lives and self.folder.exists() and _identity(self.folder) == identity:
                    continue
                observer.stop()
                self._watched = self._observe()
                log.warning("%s was replaced: watching the new one", self.folder)
                self._offer_all(self.folder)
            except (OSError, LabError) as err:
                self._say(f"{self.folder} cannot be watched: {err}. The watcher retries.")

    def _observe(self) -> tuple[BaseObserver, tuple[int, int]]:
        self.folder.mkdir(parents=True, exist_ok=True)
        identity = _identity(self.folder)
        handler = Handler(self._offer_from_thread, self._sees_close)
        try:
            observer = PollingObserver(timeout=POLL_SECONDS) if self._polling else Observer()
            observer.schedule(handler, str(self.folder), recursive=True)
            observer.start()
        except OSError as err:
            raise LabError(
                f"The system gives no events for {self.folder}: {err}. "
                f"Mend: LABKIT_WATCHER=polling in .env"
            ) from None
        return observer, identity

    def offer(self, path: Path, fresh: bool = False) -> None:
        """Consider a path; ``fresh`` says that it has just appeared, or was just closed."""
        if not self._open:
            return
        if path.is_dir() and not path.is_symlink():
            if path.suffix.lower() == ".csv":
                self._say(f"{path.name!r} is a folder, not a file: ignored. Its CSVs are read.")
            self._offer_all(path)
        elif wanted(path.relative_to(self.folder)):
            if path in self._tasks:
                self._again.add(path)
                return
            task = self._loop.create_task(self._handle(path, fresh))
            self._tasks[path] = task
            task.add_done_callback(lambda _: self._handled(path))

    def _offer_from_thread(self, path: Path, fresh: bool) -> None:
        self._loop.call_soon_threadsafe(self.offer, path, fresh)

    def _offer_all(self, folder: Path) -> None:
        for parent, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                self.offer(Path(parent, name))

    def _handled(self, path: Path) -> None:
        del self._tasks[path]
        if path in self._again:
            self._again.discard(path)
            self.offer(path)

    async def _handle(self, path: Path, fresh: bool) -> None:
        """See one file through: until its workflow is started, or there is nothing to start."""
        while True:
            try:
                if await self._start_for(path, fresh):
                    return
            except (FileNotFoundError, NotADirectoryError):
                return self._say(f"{path.name!r} was gone before it could be read: ignored.")
            except OSError as err:
                self._say(f"{path.name!r} cannot be copied: {err}. Mend it; the watcher retries.")
                await asyncio.sleep(RETRY_SECONDS)
            except Exception as err:
                if getattr(err, "status", None) == RPCStatusCode.INVALID_ARGUMENT:
                    return self._say(f"{path.name!r} was refused by Temporal: {err}. Rename it.")
                self._say(f"Temporal does not take {path.name!r}: {err}. The watcher retries.")
                await asyncio.sleep(RETRY_SECONDS)

    async def _start_for(self, path: Path, fresh: bool) -> bool:
        """Start the workflow for the bytes that are there now.

        Returns:
            False when the file changed meanwhile, or is still being written.
        """
        if path.is_symlink() or not stat.S_ISREG(path.stat().st_mode):
            self._say(f"{path.name!r} is a link or a device, not a file: ignored. Copy the file.")
            return True
        before = Stamp.of(path)
        if not fresh and await self._started(path, before):
            return True
        await asyncio.sleep(CLOSED_SECONDS if self._sees_close else QUIET_SECONDS)
        if Stamp.of(path) != before:
            return False
        if being_written(path):
            # Its close is an event of its own where there are events.
            return self._sees_close
        async with self._slots:
            snapshot, sha256 = await asyncio.to_thread(take_snapshot, path)
            if Stamp.of(path) != before:
                return False
            await self._start(path, before, snapshot, sha256)
        return True

    async def _start(self, path: Path, stamp: Stamp, snapshot: Path, sha256: str) -> None:
        config, name = settings(), path.relative_to(self.folder)
        request = PipelineInput(
            dataset_path=paths().name(path),
            snapshot_path=paths().name(snapshot),
            sha256=sha256,
            speed=config.labkit_speed,
            approval_days=config.labkit_approval_days,
            proprietary_config=ProprietaryConfig(config.labkit_architecture),
        )
        wid = workflow_id(name, stamp.mtime_ns, opaque_key())
        try:
            await self.client.start_workflow(
                WORKFLOW_TYPE,
                request,
                id=wid,
                task_queue=config.temporal_task_queue,
                task_timeout=TASK_TIMEOUT,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                static_summary=f"Pipeline for {printable(name.name)}",
                static_details=f"sha256 of the dropped file: `{sha256}`",
            )
            log.info("%r started %s", str(name), wid)
        except WorkflowAlreadyStartedError:
            log.info("%r has started %s before", str(name), wid)

    async def _started(self, path: Path, stamp: Stamp) -> bool:
        """True when Temporal knows this file: asked first, so that old files are not read.

        It may know it under the other kind of id, from before ``LABKIT_OPAQUE_IDS`` was changed.
        """
        name = path.relative_to(self.folder)
        for key in ("", settings().labkit_id_key.get_secret_value()):
            try:
                async with self._slots:
                    wid = workflow_id(name, stamp.mtime_ns, key)
                    await self.client.get_workflow_handle(wid).describe()
                return True
            except RPCError as err:
                if err.status != RPCStatusCode.NOT_FOUND:
                    raise
        return False

    def _say(self, line: str) -> None:
        """Log a line once, however often it is tried."""
        if line not in self._said:
            self._said.add(line)
            log.warning(line)


class Handler(FileSystemEventHandler):
    """Turns file system events into paths to consider."""

    def __init__(self, offer: Callable[[Path, bool], None], sees_close: bool) -> None:
        self._offer = offer
        self._sees_close = sees_close

    def on_closed(self, event: FileSystemEvent) -> None:
        self._offer(_path(event.src_path), True)

    def on_moved(self, event: FileSystemEvent) -> None:
        self._offer(_path(event.dest_path), self._sees_close and not event.is_directory)

    def on_created(self, event: FileSystemEvent) -> None:
        # What is renamed into the folder from outside appears, and is never closed.
        self._offer(_path(event.src_path), self._sees_close and not event.is_directory)

    def on_modified(self, event: FileSystemEvent) -> None:
        if not event.is_directory and not self._sees_close:
            self._offer(_path(event.src_path), False)


def _identity(folder: Path) -> tuple[int, int]:
    info = folder.stat()
    return info.st_dev, info.st_ino


def wanted(relative: Path) -> bool:
    """CSVs in any case; nothing hidden or temporary, and nothing in a hidden folder."""
    hidden = any(part.startswith((".", "~", "#")) for part in relative.parts)
    return relative.suffix.lower() == ".csv" and not hidden


def _path(name: bytes | str) -> Path:
    return Path(os.fsdecode(name))


def printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)


def open_file(path: Path) -> BinaryIO:
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


def being_written(path: Path) -> bool:
    """True when some process has the file open for writing, where the system can tell.

    Linux grants a read lease only on a file that nobody writes to (fcntl(2), F_SETLEASE).
    """
    if sys.platform != "linux":
        return False
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
            return False
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
