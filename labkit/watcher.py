"""The watcher: a CSV that is complete in ``data/raw`` starts a workflow, once.

It looks at the folder, and looks again. A file that nobody writes to, and that has not changed
between two looks, is complete. Events of the file system only wake it, so that where there are
none (network folders, too many watches) a file is merely noticed a second later.
"""

import asyncio
import hashlib
import logging
import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode
from watchdog import events
from watchdog.observers import Observer

from labkit.core.arrivals import Look, Stamp, being_written, open_file, take_snapshot
from labkit.core.files import sweep
from labkit.core.passed_over import printable, write_passed_over
from labkit.core.settings import opaque_key, paths, settings
from labkit.pipeline.listing import FIRST_STEP
from labkit.pipeline.messages import WORKFLOW_TYPE, PipelineInput, ProprietaryConfig
from labkit.pipeline.names import workflow_id

log = logging.getLogger("labkit.watcher")
logging.getLogger("watchdog").setLevel(logging.CRITICAL)  # it complains of its own end

LOOK_SECONDS = 1.0
# With ten thousand files a look takes 60 ms: it may cost a fiftieth of the time, not more.
LOOK_SHARE = 50
PAUSE_SECONDS = 0.005
# Between two looks at a file that has changed: tools set its time right after they close it.
SETTLE_SECONDS = 0.02
# Where the system cannot say who writes, a file is complete when it has not changed for so long.
QUIET_SECONDS = 1.0
# A file that is open for so long, and does not change, is worth a word.
OPEN_SECONDS = 10.0
RETRY_SECONDS = 1.0
FILES_AT_ONCE = 8
# A step of the workflow's code takes milliseconds. One that died with its worker is due again
# after this, not after Temporal's ten seconds.
TASK_TIMEOUT = timedelta(seconds=5)

# What wakes it. Where the system does not tell of a close, it tells of changes.
WAKING: list[type[events.FileSystemEvent]] = [
    events.FileCreatedEvent,
    events.FileMovedEvent,
    events.DirCreatedEvent,
    events.DirMovedEvent,
    events.FileClosedEvent if sys.platform == "linux" else events.FileModifiedEvent,
]


class Seen(NamedTuple):
    """A file that is not done, and since when it has looked the same."""

    stamp: Stamp
    since: float


class Watcher:
    """Starts a workflow for each complete CSV in a folder and below.

    The workflow's id is a function of the file and its modification time, and Temporal accepts
    an id once. So the watcher needs no memory: when it starts it offers every file it finds, and
    the server knows which ones it has seen.
    """

    def __init__(self, client: Client, folder: Path | None = None) -> None:
        self.client = client
        self.folder = folder or paths().raw
        self._seen: dict[str, Seen] = {}
        self._done: dict[str, Stamp] = {}
        # The newest comes first: what is dropped now need not wait for ten thousand old files.
        self._queue: asyncio.PriorityQueue[tuple[int, str, Seen]] = asyncio.PriorityQueue()
        self._queued: set[str] = set()
        self._later: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self._listed: dict[str, str] | None = None
        self._said: set[str] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Watcher"]:
        """Watch while the block lasts. Files that are there already are offered, too."""
        sweep()
        jobs = [self._look_on, *[self._offer_on] * FILES_AT_ONCE]
        tasks = [asyncio.create_task(_again_and_again(job)) for job in jobs]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_on(self) -> None:
        """Look when an event says so, and once a second; and at what has changed, again."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        rested = due = 0.0  # when an event, and when time alone, is a reason for the next look
        with waking(self.folder, lambda: loop.call_soon_threadsafe(wake.set)):
            while True:
                now = loop.time()
                if now >= due or (wake.is_set() and now >= rested):
                    wake.clear()
                    found, passed, cost = await asyncio.to_thread(self._look)
                    rested = loop.time() + cost
                    due = loop.time() + max(LOOK_SECONDS, LOOK_SHARE * cost)
                    self._list(passed | self._refused)
                else:
                    found = await asyncio.to_thread(self._look_again)
                if self._compare(found, loop.time()):
                    await asyncio.sleep(SETTLE_SECONDS)
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), due - loop.time())
                await asyncio.sleep(PAUSE_SECONDS)

    def _look(self) -> tuple[dict[str, Stamp], dict[str, str], float]:
        """The files that are not done, what is passed over, and the seconds that the look cost."""
        started = time.thread_time()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            look = Look(self.folder, self._done)
        except OSError as err:
            return {}, {str(self.folder): f"cannot be watched: {err}. Mend that."}, 0.0
        return look.found, look.passed, time.thread_time() - started

    def _look_again(self) -> dict[str, Stamp]:
        """The same files again, without looking for others."""
        found = {}
        for path in self._seen:
            with suppress(OSError):
                info = os.lstat(path)
                if stat.S_ISREG(info.st_mode) and self._done.get(path) != Stamp.of(info):
                    found[path] = Stamp.of(info)
        return found

    def _compare(self, found: dict[str, Stamp], now: float) -> bool:
        """Offer what is as it was at the last look.

        Returns:
            True when something is not, so that a further look is due at once.
        """
        before, self._seen = self._seen, {}
        changed = False
        for path, stamp in found.items():
            seen = before.get(path)
            if seen is None or seen.stamp != stamp:
                self._seen[path], changed = Seen(stamp, now), True
                continue
            self._seen[path] = seen
            if path not in self._queued and self._later.get(path, 0) <= now:
                self._queued.add(path)
                self._queue.put_nowait((-stamp.mtime_ns, path, seen))
        return changed

    async def _offer_on(self) -> None:
        while True:
            _, path, seen = await self._queue.get()
            try:
                await self._offer(path, seen)
            finally:
                self._queued.discard(path)

    async def _offer(self, path: str, seen: Seen) -> None:
        """Start its workflow, or say why not. What may pass is offered again."""
        self._later.pop(path, None)
        try:
            done, why = await self._start_for(Path(path), seen)
        except (FileNotFoundError, NotADirectoryError):
            return self._say(path, "was gone before it could be read: ignored.")
        except Exception as err:
            self._later[path] = asyncio.get_running_loop().time() + RETRY_SECONDS
            done = getattr(err, "status", None) == RPCStatusCode.INVALID_ARGUMENT
            if isinstance(err, OSError):
                why = f"cannot be copied: {err}. Mend it; the watcher retries."
            elif done:
                why = f"was refused by Temporal: {err}. Rename it."
            else:
                return self._say(path, f"is not taken by Temporal: {err}. The watcher retries.")
        if done:
            self._done[path] = seen.stamp
        if why:
            self._say(path, why)
            self._refused[path] = why
        else:
            self._refused.pop(path, None)

    async def _start_for(self, path: Path, seen: Seen) -> tuple[bool, str]:
        """Start the workflow for the bytes that are there now.

        Returns:
            Whether it is done with this file, and why it was passed over; empty when it was not.
        """
        written, age = being_written(path), asyncio.get_running_loop().time() - seen.since
        if written and age > OPEN_SECONDS:
            return False, "is open for writing in some program. It starts when that closes it."
        if written or (written is None and age < QUIET_SECONDS):
            return False, ""
        if run := await self._known(path, seen.stamp):
            return True, await _why_known(path, seen.stamp, run)
        snapshot, sha256 = await asyncio.to_thread(take_snapshot, path)
        if Stamp.of(path.lstat()) != seen.stamp:
            return False, ""
        await self._start(path, seen.stamp, snapshot, sha256)
        return True, ""

    async def _start(self, path: Path, stamp: Stamp, snapshot: Path, sha256: str) -> None:
        config, name = settings(), path.relative_to(self.folder)
        request = PipelineInput(
            dataset_path=paths().name(path),
            snapshot_path=paths().name(snapshot),
            sha256=sha256,
            speed=config.labkit_speed,
            approval_days=config.labkit_approval_days,
            proprietary_config=ProprietaryConfig(config.labkit_architecture),
            other_files=config.labkit_other_files,
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
                search_attributes=FIRST_STEP,
                static_summary=f"Pipeline for {printable(name.name)}",
                static_details=f"sha256 of the dropped file: `{sha256}`",
            )
            log.info("%r started %s", str(name), wid)
        except WorkflowAlreadyStartedError:
            log.info("%r has started %s before", str(name), wid)

    async def _known(self, path: Path, stamp: Stamp) -> WorkflowExecutionDescription | None:
        """The run of this file, if there is one: asked first, so that old files are not read.

        Temporal may know it under the other kind of id, from before ``LABKIT_OPAQUE_IDS`` was
        changed.
        """
        name = path.relative_to(self.folder)
        for key in ("", settings().labkit_id_key.get_secret_value()):
            try:
                wid = workflow_id(name, stamp.mtime_ns, key)
                return await self.client.get_workflow_handle(wid).describe()
            except RPCError as err:
                if err.status != RPCStatusCode.NOT_FOUND:
                    raise
        return None

    def _list(self, passed: dict[str, str]) -> None:
        """Keep what was passed over where people look."""
        if passed != self._listed:
            for path, why in passed.items():
                self._say(path, why)
            with suppress(OSError):  # a full disk: the next look tries again
                write_passed_over(passed)
                self._listed = passed

    def _say(self, path: str, why: str) -> None:
        """Log a line once, however often it is tried."""
        line = f"{Path(path).name!r} {why}"
        if line not in self._said:
            self._said.add(line)
            log.warning(line)


async def _again_and_again(job: Callable[[], Awaitable[None]]) -> None:
    """A watcher that has ended in silence would be worse than any error."""
    while True:
        try:
            await job()
        except Exception:
            log.exception("The watcher met something unforeseen, and goes on.")
            await asyncio.sleep(RETRY_SECONDS)


async def _why_known(path: Path, stamp: Stamp, run: WorkflowExecutionDescription) -> str:
    """A file that was changed since its run began, and kept its time, starts nothing."""
    if stamp.ctime_ns <= run.start_time.timestamp() * 1e9:
        return ""
    with suppress(Exception):  # without the key nobody can say
        details = await run.static_details() or ""
        if "sha256" in details and await asyncio.to_thread(_sha256, path) not in details:
            return f"has changed, but its time has not, and {run.id} ran. Mend: touch it."
    return ""


def _sha256(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Wake(events.FileSystemEventHandler):
    """Calls a function when something in a folder may have changed."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake

    def on_any_event(self, event: events.FileSystemEvent) -> None:
        self._wake()


@contextmanager
def waking(folder: Path, wake: Callable[[], object]) -> Iterator[None]:
    """Events of the folder while the block lasts, where the system gives any."""
    observer = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        observer = Observer()
        observer.schedule(Wake(wake), str(folder.resolve()), recursive=True, event_filter=WAKING)
        observer.start()
    except OSError as err:
        log.warning("No events for %s: %s. The watcher looks once a second.", folder, err)
        observer = None
    try:
        yield
    finally:
        if observer:
            observer.stop()
            observer.join(5)
