"""The lab, as notebooks call it: servers, worker and watcher behind one name."""

import asyncio
import atexit
import logging
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar, TypeVar
from uuid import uuid4

from filelock import FileLock, Timeout
from temporalio.client import Client

from labkit import services
from labkit.client import connect
from labkit.pipeline.names import workflow_id
from labkit.run import Run
from labkit.services.state import Owner, Process, State, changing
from labkit.settings import LabError, paths, recorded_address
from labkit.watcher import Watcher
from labkit.worker import Background, log_to_file, running_worker

T = TypeVar("T")
log = logging.getLogger("labkit.lab")

TAKE_OVER_SECONDS = 20
LOOK_SECONDS = 0.25
DROP_SECONDS = 30
CALL_SECONDS = 60


class Handle:
    """One server of the lab: ``lab.postgres.stop()`` really stops it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> None:
        """Start it, at the address where it was, and wait until it answers."""
        services.start(self.name)
        print(f"{self.name} runs at {services.SERVICES[self.name].address()}.")

    def stop(self) -> None:
        """Stop it, and wait until it has stopped."""
        services.stop(self.name)
        print(f"{self.name} is stopped.")


class Lab:
    """The servers, and this process's worker and watcher.

    One lab is on duty at a time. A newer one, in another notebook or terminal, takes over; the
    older one's worker and watcher stop and say so, and its runs go on with the newer worker.
    """

    _current: ClassVar["Lab | None"] = None

    def __init__(self, encrypted: bool, worker: bool, watcher: bool, what: str) -> None:
        self.encrypted = encrypted
        self.temporal, self.postgres, self.models = map(Handle, ("temporal", "postgres", "models"))
        self.notes: list[str] = []
        self._worker, self._watcher = worker, watcher
        self._what = what
        self._token = uuid4().hex
        self._background = Background()
        self._duty = FileLock(paths().lab / "duty.lock", thread_local=False)
        self._stack: AsyncExitStack | None = None
        self._client: Client | None = None
        self._relieved_by: str | None = None

    @classmethod
    def start(
        cls,
        encrypted: bool = False,
        worker: bool = True,
        watcher: bool = True,
        what: str = "lab",
    ) -> "Lab":
        """Start what does not run yet, and go on duty. Harmless when this lab runs already.

        Args:
            encrypted: write nothing in clear to the Temporal server.
            worker: run a worker in a background thread of this process.
            watcher: watch ``data/raw`` in that thread too.
            what: how this process is recorded: ``lab``, or ``up`` for the command.

        Raises:
            LabError: a server did not start, or the settings cannot be used; with the mend.
        """
        lab = cls._current
        if lab and lab._relieved_by is None and lab.encrypted == encrypted:
            services.start()
            return lab
        if lab:
            lab.stop()
        lab = cls(encrypted, worker, watcher, what)
        try:
            lab._start()
        except BaseException:
            lab.stop()
            raise
        cls._current = lab
        return lab

    def stop(self) -> None:
        """Go off duty, and stop the servers unless somebody else uses them. Harmless twice."""
        if Lab._current is self:
            Lab._current = None
        try:
            self._background.run(self._off_duty, CALL_SECONDS)
        finally:
            self._background.close()
            atexit.unregister(self.stop)
            services.leave()

    def restart(self, encrypted: bool = False) -> "Lab":
        """The same lab, with an encrypted or a plain worker. Servers keep running."""
        background, self._background = self._background, Background()
        background.run(self._off_duty, CALL_SECONDS)
        background.close()
        self.encrypted, self._token = encrypted, uuid4().hex
        self._start()
        return self

    def __repr__(self) -> str:
        mode = "encrypted" if self.encrypted else "plain"
        rows = [f"The lab runs, with {'a' if mode == 'plain' else 'an'} {mode} worker."]
        names = {
            "temporal": "Temporal server",
            "ui": "Temporal Web UI",
            "postgres": "PostgreSQL",
            "dev": "Model server dev",
            "prod": "Model server prod",
        }
        rows += [f"  {text:<18}{recorded_address(name)}" for name, text in names.items()]
        return "\n".join([*rows, f"  {'Drop CSVs into':<18}{_short(paths().raw)}", *self.notes])

    async def client(self) -> Client:
        """A client of the real SDK, on the event loop of the caller: use it with ``await``."""
        return await connect(self.encrypted)

    def drop(self, name: str, source: Path | str | None = None) -> Run:
        """Copy a CSV into ``data/raw``, and wait until the watcher has started its workflow.

        Args:
            name: the file's name there; ``good…`` trains well, ``bad…`` has broken labels.
            source: what to copy; the lab's own sample when nothing is named.

        Raises:
            LabError: there is no such source, or no workflow started within 30 s; says why.
        """
        if Path(name).name != name or name in ("", ".", ".."):
            raise LabError(f"{name!r} is not a plain file name. Use one such as 'good.csv'.")
        self.say_if_relieved()
        origin = Path(source) if source else paths().example
        if not origin.is_file():
            raise LabError(f"{origin} is not a file. Name a CSV that exists, or none at all.")
        target = paths().raw / name
        temporary = target.with_name(f".{os.getpid()}-{name}.part")
        shutil.copyfile(origin, temporary)
        temporary.replace(target)
        run = self.run(workflow_id(Path(name), target.stat().st_mtime_ns))
        self._wait_for_start(run, name)
        return run

    def run(self, id: str) -> Run:
        """The run with this workflow id, whoever started it."""
        return Run(id, self._call)

    def runs(self) -> list[Run]:
        """All runs that Temporal remembers, newest first."""

        async def ids(client: Client) -> list[str]:
            return [
                found.id async for found in client.list_workflows("WorkflowType='MLOpsWorkflow'")
            ]

        return [self.run(id) for id in self._call(ids)]

    def logs(self, lines: int = 20) -> None:
        """Print the end of this process's worker and watcher log."""
        path = paths().logs / "lab.log"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        print("\n".join(text.splitlines()[-lines:]))

    def _start(self) -> None:
        log_to_file("lab")
        services.join(self._what)
        atexit.register(self.stop)
        with services.starting() as futures:
            self._take_over()
            futures["temporal"].result()
            self._background.run(self._on_duty, CALL_SECONDS)
        self.notes = [note for future in futures.values() for note in future.result()]
        self._background.submit(self._watch_for_newer)

    def _take_over(self) -> None:
        """Become the lab on duty: the older one sees it, stops, and lets go of the lock."""
        with changing() as state:
            state.owner = Owner(Process.current(), self._token, self.encrypted)
        try:
            self._duty.acquire(timeout=TAKE_OVER_SECONDS)
        except Timeout:
            self.notes.append(
                "An older lab does not let go. Both work side by side, which harms nothing; "
                "shut its kernel down when you can."
            )

    async def _on_duty(self) -> None:
        self._client = await connect(self.encrypted)
        self._stack = AsyncExitStack()
        if self._worker:
            await self._stack.enter_async_context(running_worker(self._client))
        if self._watcher:
            await self._stack.enter_async_context(Watcher(self._client).running())
        log.info("on duty, encrypted=%s", self.encrypted)

    async def _off_duty(self) -> None:
        if self._stack:
            stack, self._stack = self._stack, None
            await stack.aclose()
            log.info("off duty")
        self._duty.release(force=True)
        with changing() as state:
            if state.owner and state.owner.token == self._token:
                state.owner = None

    async def _watch_for_newer(self) -> None:
        """Stop working as soon as a newer lab is on duty."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            owner = State.read().owner
            if owner and owner.token != self._token:
                at = time.strftime("%H:%M:%S")
                self._relieved_by = f"A newer lab (process {owner.process.pid}) took over at {at}."
                await self._off_duty()
                log.warning("%s", self._relieved_by)
                return

    def say_if_relieved(self) -> None:
        if self._relieved_by:
            print(
                f"{self._relieved_by} Its worker and watcher do the work now; this one's have "
                f"stopped. To take over again: lab = Lab.start()",
                file=sys.stderr,
            )

    def _wait_for_start(self, run: Run, name: str) -> None:
        async def exists(client: Client) -> bool:
            return [1 async for _ in client.list_workflows(f"WorkflowId='{run.id}'")] != []

        deadline = time.monotonic() + DROP_SECONDS
        while not self._call(exists):
            if time.monotonic() > deadline:
                raise LabError(
                    f"{name} lies in {_short(paths().raw)}, but no workflow {run.id} started "
                    f"within {DROP_SECONDS} s. Is a watcher on duty? See lab.logs()."
                )
            time.sleep(0.01)

    def _call(self, make: Callable[[Client], Awaitable[T]]) -> T:
        """Run ``await make(client)`` on the lab's loop, from any thread, and wait for it."""

        async def call() -> T:
            assert self._client is not None, "the lab is not started"
            return await make(self._client)

        return self._background.run(call, CALL_SECONDS)


def _short(path: Path) -> str:
    """The path as a participant types it: below the lab's folder."""
    return path.relative_to(paths().root).as_posix() + "/"
