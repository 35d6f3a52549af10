"""The lab, as notebooks call it: servers, worker and watcher behind one name."""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from temporalio.client import Client
from temporalio.service import RPCError

from labkit import course, faults, overview, release, services
from labkit.ask.client import connect, link_to
from labkit.ask.runs import Row, list_rows
from labkit.ask.xray import search_database
from labkit.bench import clean
from labkit.core.arrivals import wanted
from labkit.core.files import write_atomically
from labkit.core.journal import note_dropped
from labkit.core.settings import LabError, opaque_key, paths
from labkit.datasets import draw
from labkit.duty import Duty
from labkit.encryption import data_converter
from labkit.handle import Handle
from labkit.pipeline.names import workflow_id
from labkit.run import Run
from labkit.scenarios import Scenarios
from labkit.services.part import LabProcess
from labkit.views.live import leave_all
from labkit.worker import Background, load, log_to_file

T = TypeVar("T")
CALL_SECONDS = 60
log = logging.getLogger("labkit.lab")


class Lab:
    """The servers, and this process's worker and watcher.

    One lab is on duty at a time. A newer one, in another notebook or terminal, takes over; the
    older one's worker and watcher stop and say so, and its runs go on with the newer worker.
    """

    _current: ClassVar["Lab | None"] = None

    tidy, jump_to, why = course.tidy, course.jump_to, course.why
    serving, rollback = release.serving, release.rollback
    runs, compare = overview.runs, overview.compare
    progress, validate = staticmethod(course.progress), staticmethod(clean.validate)
    fault = staticmethod(faults.fault)
    env = staticmethod(faults.changed_env)

    def __init__(self, encrypted: bool, worker: bool, watcher: bool, what: str) -> None:
        self.temporal, self.postgres, self.models = map(Handle, ("temporal", "postgres", "models"))
        self.notes: list[str] = []
        self._what = what
        self._background = Background()
        self.duty = Duty(self._background, encrypted, worker, watcher)
        self.scenarios = Scenarios()
        self.at_stop = ExitStack()  # what views want to be called before the lab stops
        self.at_stop.callback(leave_all)

    @classmethod
    def start(
        cls,
        encrypted: bool = False,
        worker: bool = True,
        watcher: bool = True,
        what: str = "lab",
        take_over: bool = True,
    ) -> "Lab":
        """Start what does not run yet, and go on duty. Harmless when this lab runs already.

        Args:
            encrypted: write nothing in clear to the Temporal server.
            worker: run a worker in a background thread of this process.
            watcher: watch ``data/raw`` in that thread too.
            what: how this process is recorded: ``lab``, or ``up`` for the command.
            take_over: relieve the lab that is on duty; otherwise stand by until it ends.

        Raises:
            LabError: a server did not start, or the settings cannot be used; with the mend.
        """
        lab = cls._current
        if lab is None:
            lab = cls(encrypted, worker, watcher, what)
            lab._start(take_over)
            return lab
        services.start()
        if take_over and not lab._works_as(encrypted, worker, watcher):
            lab._replace(encrypted, worker, watcher)
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
                self.duty.end()
                self._background.close()
            finally:
                services.leave()
                Lab._current = None

    def restart(self, encrypted: bool = False) -> "Lab":
        """The same lab, with an encrypted or a plain worker. Servers and views stay as they are."""
        self._replace(encrypted, self.duty.worker, self.duty.watcher)
        return self

    def _replace(self, encrypted: bool, worker: bool, watcher: bool) -> None:
        with self._all_or_nothing():
            data_converter(encrypted)  # complains before the old one ends
            self.duty.end()
            if self._background.closed:
                self._background = Background()
            self.duty = Duty(self._background, encrypted, worker, watcher)
            Lab._current = self
            self.duty.begin()

    @property
    def encrypted(self) -> bool:
        """True when nothing is written in clear to the Temporal server."""
        return self.duty.encrypted

    @property
    def relieved_by(self) -> str:
        """Which newer lab is on duty instead, in words; empty while this one is."""
        return self.duty.relieved_by

    def __repr__(self) -> str:
        if not self.duty.on:
            return self.relieved_by or "The lab is stopped. Start it: lab = Lab.start()"
        worker = "an encrypted worker" if self.encrypted else "a plain worker"
        rows = [f"The lab runs, with {worker if self.duty.worker else 'no worker of its own'}."]
        names = {
            "temporal": "Temporal server",
            "ui": "Temporal Web UI",
            "postgres": "PostgreSQL",
            "dev": "Model server dev",
            "prod": "Model server prod",
        }
        rows += [f"  {text:<18}{link_to(name)}" for name, text in names.items()]
        rows.append(f"  {'Drop CSVs into':<18}{paths().name(paths().raw)}/")
        return "\n".join([*rows, *self.notes])

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
        self.duty.processes.append(process)
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
            if target.is_symlink():
                target.unlink()  # what it points to is not to be written
            write_atomically(target, _content(source) if rows is None else draw(rows))
        except (OSError, ValueError) as err:
            raise LabError(f"{name} cannot be copied to {target}: {err}. Mend that.") from None
        run = self.run(workflow_id(Path(name), target.stat().st_mtime_ns, opaque_key()))
        note_dropped(run.id)
        if wait:
            run.wait_for_start()
        return run

    def run(self, id: str) -> Run:
        """The run with this workflow id, whoever started it."""
        return Run(id, self)

    async def rows(self) -> list[Row]:
        """The newest runs on the lab's loop, with status and step: one request."""
        return await self.ask(list_rows)

    def search_database(self, *plaintexts: str) -> dict[str, bool]:
        """Which of these texts stand in clear in the Temporal server's database file."""
        return search_database(plaintexts)

    def logs(self, lines: int = 20) -> None:
        """Print the end of this process's worker and watcher log."""
        path = paths().logs / "lab.log"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        print("\n".join(text.splitlines()[-lines:]))

    def _start(self, take_over: bool) -> None:
        Lab._current = self
        self.notes = []
        with self._all_or_nothing():
            log_to_file("lab")
            self.notes += services.prepare()  # the first start of all makes the key
            data_converter(self.encrypted)  # complains of wrong settings before a server starts
            services.join(self._what)
            if self.duty.worker:  # side by side with the servers
                threading.Thread(target=load, daemon=True).start()
            self.notes += services.start()
            if found := faults.read_fault():
                self.notes.append(f"{found}. Delete that file, or end that block, to clear it.")
            self.duty.begin(take_over)
            self.notes += self.duty.notes
            course.explain_missing_names()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """An interrupt on the way leaves no worker and no server."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def _works_as(self, encrypted: bool, worker: bool, watcher: bool) -> bool:
        """True when it is on duty like this."""
        duty = self.duty
        return duty.on and (encrypted, worker, watcher) == (
            duty.encrypted,
            duty.worker,
            duty.watcher,
        )

    def say_if_relieved(self) -> None:
        if self.relieved_by:
            print(
                f"{self.relieved_by} Its worker and watcher do the work now; this one's go on when "
                f"it ends. To take over at once: lab = Lab.start()",
                file=sys.stderr,
            )

    async def ask(self, make: Callable[[Client], Awaitable[T]]) -> T:
        """On the lab's loop: ``await make(client)``, with the client of this moment."""
        return await make(self.duty.client)

    def call(self, make: Callable[[Client], Awaitable[T]]) -> T:
        """The same from any other thread, which waits for the answer.

        Raises:
            LabError: the lab is stopped, or the server does not answer.
        """
        try:
            return self._background.run(lambda: self.ask(make), CALL_SECONDS)
        except RPCError as err:
            raise LabError(
                f"The Temporal server says: {err.message}. Does it run? lab.temporal.start()"
            ) from None
        except CancelledError:
            raise LabError("The lab was stopped meanwhile.") from None
        except TimeoutError:
            raise LabError(f"No answer within {CALL_SECONDS} s. See lab.logs().") from None

    def task(self, make: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Start a task on the lab's loop, as views do. It is cancelled when the lab stops.

        Raises:
            LabError: the lab is stopped.
        """
        return self._background.submit(make)

    def aside(self, work: Callable[[], T]) -> "Future[T]":
        """Do something that blocks beside the loop, in a thread of its executor."""
        return self.task(lambda: asyncio.to_thread(work))


def _content(source: Path | str | bytes | None) -> bytes:
    if isinstance(source, bytes):
        return source
    origin = Path(source) if source else paths().example
    if not origin.is_file():
        raise LabError(f"{origin} is not a file. Name a CSV that exists, or none at all.")
    return origin.read_bytes()


def _stop_at_exit() -> None:
    if Lab._current and os.getpid() == _PID:
        Lab._current.stop()


# At exit Python first waits for the threads of every executor, a training among them, and lets no
# new one start; only then come atexit's hooks. The lab must be stopped before, and this is the
# only place: the executors' own hook is registered the same way.
_PID = os.getpid()
threading._register_atexit(_stop_at_exit)  # type: ignore[attr-defined]
