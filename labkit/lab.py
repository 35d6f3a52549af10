"""The lab, as notebooks call it: servers, worker and watcher behind one name."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal, TypeVar
from uuid import uuid4

from filelock import FileLock, Timeout
from temporalio.client import Client
from temporalio.service import RPCError

from labkit import faults, services
from labkit.ask.client import address, connect
from labkit.ask.runs import Row, list_rows
from labkit.ask.xray import search_database
from labkit.core.arrivals import wanted
from labkit.core.files import write_atomically
from labkit.core.process import Process
from labkit.core.record import Owner, State, changing, recorded_address
from labkit.core.settings import LabError, opaque_key, paths
from labkit.datasets import draw
from labkit.encryption import data_converter
from labkit.pipeline.names import workflow_id
from labkit.run import Run
from labkit.services.part import LabProcess
from labkit.views.progress import show_widget
from labkit.watcher import Watcher
from labkit.worker import Background, log_to_file, running_worker

T = TypeVar("T")
log = logging.getLogger("labkit.lab")

TAKE_OVER_SECONDS = 20
LOOK_SECONDS = 0.25
LET_GO_SECONDS = 1
CALL_SECONDS = 60


class Handle:
    """One server of the lab: ``lab.postgres.stop()`` really stops it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> None:
        """Start it, at the address where it was, and wait until it answers."""
        print(self._start())

    def stop(self) -> None:
        """Stop it, and wait until it has stopped."""
        print(self._stop())

    def kill(self) -> None:
        """End it as a crash does: SIGKILL, or the immediate mode of PostgreSQL."""
        services.stop(self.name, hard=True)
        print(f"{self.name} is killed.")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop it, and start it again after the block, even if the block is interrupted."""
        try:
            self.stop()
            yield
        finally:
            self.start()

    def buttons(self) -> None:
        """Show a button to stop it and one to start it."""
        from labkit.views.buttons import row_of_buttons

        show_widget(row_of_buttons(self.name, {"Stop": self._stop, "Start": self._start}))

    def _start(self) -> str:
        services.start(self.name)
        return f"{self.name} runs at {services.SERVICES[self.name].address()}."

    def _stop(self) -> str:
        services.stop(self.name)
        return f"{self.name} is stopped."


class Lab:
    """The servers, and this process's worker and watcher.

    One lab is on duty at a time. A newer one, in another notebook or terminal, takes over; the
    older one's worker and watcher stop and say so, and its runs go on with the newer worker.
    """

    _current: ClassVar["Lab | None"] = None

    fault = staticmethod(faults.fault)
    env = staticmethod(faults.changed_env)

    def __init__(self, encrypted: bool, worker: bool, watcher: bool, what: str) -> None:
        self.encrypted = encrypted
        self.temporal, self.postgres, self.models = map(Handle, ("temporal", "postgres", "models"))
        self.notes: list[str] = []
        self._worker, self._watcher = worker, watcher
        self._what = what
        self._token = ""
        self._background = Background()
        self._switching = asyncio.Lock()
        self._duty = FileLock(paths().lab / "duty.lock", thread_local=False)
        self._stack: AsyncExitStack | None = None
        self._client: Client | None = None
        self._processes: list[LabProcess] = []
        self.relieved_by = ""
        self.at_stop = ExitStack()  # what views want to be called before the lab stops

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
        if lab is None:
            lab = cls(encrypted, worker, watcher, what)
            lab._start()
            return lab
        services.start()
        if not lab._works_as(encrypted, worker, watcher):
            lab._worker, lab._watcher = worker, watcher
            lab.restart(encrypted)
        return lab

    def stop(self) -> None:
        """Go off duty, and stop the servers unless somebody else uses them. Harmless twice."""
        if Lab._current is not self:
            return
        try:
            with self.at_stop:
                pass
        finally:
            try:
                self._close()
            finally:
                services.leave()
                Lab._current = None

    def restart(self, encrypted: bool = False) -> "Lab":
        """The same lab, with an encrypted or a plain worker. Servers keep running."""
        self._close()
        self._background, self.encrypted = Background(), encrypted
        self._start()
        return self

    def __repr__(self) -> str:
        if self._stack is None:
            return self.relieved_by or "The lab is stopped. Start it: lab = Lab.start()"
        worker = "an encrypted worker" if self.encrypted else "a plain worker"
        rows = [f"The lab runs, with {worker if self._worker else 'no worker of its own'}."]
        names = {
            "temporal": "Temporal server",
            "ui": "Temporal Web UI",
            "postgres": "PostgreSQL",
            "dev": "Model server dev",
            "prod": "Model server prod",
        }
        rows += [f"  {text:<18}{recorded_address(name)}" for name, text in names.items()]
        return "\n".join([*rows, f"  {'Drop CSVs into':<18}{_short(paths().raw)}", *self.notes])

    def worker_process(self, encrypted: bool | None = None, crash_at: str = "") -> LabProcess:
        """Start a worker in a process of its own, which can be killed, and wait until it polls.

        It works beside the lab's own worker; ``Lab.start(worker=False)`` leaves it alone. It ends
        with this process, with :meth:`stop` and :meth:`restart`, and with ``make down``.

        Args:
            encrypted: write only ciphertext; as the lab does, when nothing is said.
            crash_at: where it kills itself: ``deploy_to_dev:answer`` is after the work of that
                activity, and before its answer.

        Raises:
            LabError: it did not start; with the end of its log.
        """
        return self._process("worker", encrypted, crash_at)

    def watcher_process(self, encrypted: bool | None = None) -> LabProcess:
        """Start a watcher in a process of its own; otherwise as :meth:`worker_process`."""
        return self._process("watch", encrypted)

    def _process(
        self, what: Literal["worker", "watch"], encrypted: bool | None, crash_at: str = ""
    ) -> LabProcess:
        self.say_if_relieved()
        sealed = self.encrypted if encrypted is None else encrypted
        process = LabProcess(what, sealed, crash_at)
        self._processes.append(process)
        return process

    async def client(self) -> Client:
        """A client of the real SDK, on the event loop of the caller: use it with ``await``."""
        return await connect(self.encrypted)

    def drop(
        self,
        name: str,
        source: Path | str | bytes | None = None,
        rows: int | None = None,
        wait: bool = True,
    ) -> Run:
        """Copy a CSV into ``data/raw``, and wait until the watcher has started its workflow.

        Args:
            name: the file's name there; ``good…`` trains well, ``bad…`` has broken labels, and
                any other half of the time, unless ``LABKIT_OTHER_FILES`` is ``good``.
            source: what to copy, or its bytes; the lab's own sample when nothing is named.
            rows: draw so many rows from the sample instead; see :func:`labkit.datasets.draw`.
            wait: return when the workflow has started; otherwise at once.

        Raises:
            LabError: the name or the source cannot be used, or no workflow started within 30 s;
                says why.
        """
        if Path(name).name != name or not wanted(Path(name)):
            raise LabError(
                f"{name!r} is not the plain name of a CSV, which the watcher would take. "
                f"Use one such as 'good.csv'."
            )
        self.say_if_relieved()
        target = paths().raw / name
        try:
            write_atomically(target, _content(source) if rows is None else draw(rows))
        except (OSError, ValueError) as err:
            raise LabError(f"{name} cannot be copied to {target}: {err}. Mend that.") from None
        run = self.run(workflow_id(Path(name), target.stat().st_mtime_ns, opaque_key()))
        if wait:
            run.wait_for_start()
        return run

    def run(self, id: str) -> Run:
        """The run with this workflow id, whoever started it."""
        return Run(id, self._call)

    def runs(self) -> list[Run]:
        """The newest runs that Temporal remembers, newest first."""

        return [self.run(row.id) for row in self.rows()]

    def rows(self) -> list[Row]:
        """The list of runs, newest first, with status and step: one request, whatever its length.

        Raises:
            LabError: the Temporal server does not answer.
        """
        return self._call(list_rows)

    def search_database(self, *plaintexts: str) -> dict[str, bool]:
        """Which of these texts stand in clear in the Temporal server's database file."""
        return search_database(plaintexts)

    def logs(self, lines: int = 20) -> None:
        """Print the end of this process's worker and watcher log."""
        path = paths().logs / "lab.log"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        print("\n".join(text.splitlines()[-lines:]))

    def _start(self) -> None:
        """All of it or nothing: an interrupt on the way leaves no worker and no server."""
        Lab._current = self
        self._token, self.relieved_by, self.notes = uuid4().hex, "", []
        self._switching = asyncio.Lock()
        try:
            log_to_file("lab")
            self.notes += faults.put_back_after_crash()
            self.notes += services.prepare()  # the first start of all makes the key
            data_converter(self.encrypted)  # complains of wrong settings before a server starts
            services.join(self._what)
            with services.starting() as futures:
                self._take_over()
                futures["temporal"].result()
                self._background.run(self._on_duty, CALL_SECONDS)
            self.notes += [note for future in futures.values() for note in future.result()]
            if found := faults.read_fault():
                self.notes.append(
                    f"config/{faults.fault_file().name} is there: {found.activity} fails on "
                    f"purpose. Delete the file to clear the fault."
                )
            self._background.submit(self._watch_for_newer)
        except BaseException:
            self.stop()
            raise

    def _close(self) -> None:
        if not self._background.closed:
            try:
                self._background.run(self._off_duty, CALL_SECONDS)
            finally:
                self._background.close()

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

    def _works_as(self, encrypted: bool, worker: bool, watcher: bool) -> bool:
        """True when it is on duty like this, and the Temporal server is where it was."""
        if self._stack is None or self._client is None:
            return False
        asked = (encrypted, worker, watcher, address())
        at = self._client.service_client.config.target_host
        return asked == (self.encrypted, self._worker, self._watcher, at)

    async def _on_duty(self) -> None:
        async with self._switching:
            self._client = await connect(self.encrypted)
            self._stack = AsyncExitStack()
            if self._worker:
                await self._stack.enter_async_context(running_worker(self._client))
            if self._watcher:
                await self._stack.enter_async_context(Watcher(self._client).running())
            log.info("on duty, encrypted=%s", self.encrypted)

    async def _off_duty(self) -> None:
        async with self._switching:
            while self._processes:
                await asyncio.to_thread(self._processes.pop().stop)
            if self._stack:
                stack, self._stack = self._stack, None
                await self._let_go(stack)
                log.info("off duty")
            self._duty.release(force=True)
            with changing() as state:
                if state.owner and state.owner.token == self._token:
                    state.owner = None

    async def _let_go(self, stack: AsyncExitStack) -> None:
        """Let activities end and say so to the server; if it does not answer, say it to nobody."""
        closing = asyncio.create_task(stack.aclose())
        while not (await asyncio.wait([closing], timeout=LET_GO_SECONDS))[0]:
            try:
                assert self._client is not None, "there is a worker, so there is a client"
                second = timedelta(seconds=1)
                await self._client.service_client.check_health(timeout=second)
            except RPCError:
                log.warning("The Temporal server does not answer: its worker is left as it is.")
                return
        await closing

    async def _watch_for_newer(self) -> None:
        """Stop working as soon as a newer lab is on duty."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            owner = State.read().owner
            if owner and owner.token != self._token:
                at = time.strftime("%H:%M:%S")
                self.relieved_by = f"A newer lab (process {owner.process.pid}) took over at {at}."
                await self._off_duty()
                log.warning("%s", self.relieved_by)
                return

    def say_if_relieved(self) -> None:
        if self.relieved_by:
            print(
                f"{self.relieved_by} Its worker and watcher do the work now; this one's have "
                f"stopped. To take over again: lab = Lab.start()",
                file=sys.stderr,
            )

    def _call(self, make: Callable[[Client], Awaitable[T]]) -> T:
        """Run ``await make(client)`` on the lab's loop, from any thread, and wait for it."""

        async def call() -> T:
            assert self._client is not None, "the lab is not started"
            return await make(self._client)

        try:
            return self._background.run(call, CALL_SECONDS)
        except RPCError as err:
            raise LabError(
                f"The Temporal server says: {err.message}. Does it run? lab.temporal.start()"
            ) from None
        except TimeoutError:
            raise LabError(f"No answer within {CALL_SECONDS} s. See lab.logs().") from None


def _content(source: Path | str | bytes | None) -> bytes:
    if isinstance(source, bytes):
        return source
    origin = Path(source) if source else paths().example
    if not origin.is_file():
        raise LabError(f"{origin} is not a file. Name a CSV that exists, or none at all.")
    return origin.read_bytes()


def _short(path: Path) -> str:
    """The path as a participant types it: below the lab's folder."""
    return path.relative_to(paths().root).as_posix() + "/"


def _stop_at_exit() -> None:
    if Lab._current and os.getpid() == _PID:
        Lab._current.stop()


# At exit Python first waits for the threads of every executor, a training among them, and lets no
# new one start; only then come atexit's hooks. The lab must be stopped before, and this is the
# only place: the executors' own hook is registered the same way.
_PID = os.getpid()
threading._register_atexit(_stop_at_exit)  # type: ignore[attr-defined]
