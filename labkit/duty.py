"""On duty: one lab at a time runs its worker and its watcher, and the others stand by.

A participant opens the next notebook while the last kernel still runs. The labs that live are on
record in the order in which they came. The newest of them is on duty; when it ends, however it
ends, the one before it is the newest.
"""

import asyncio
import logging
import time
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from uuid import uuid4

from filelock import FileLock, Timeout
from temporalio.client import Client
from temporalio.service import RPCError

from labkit.ask.client import connect
from labkit.core.ports import hold, let_go
from labkit.core.process import Process
from labkit.core.record import Owner, State, changing, recorded_address
from labkit.core.settings import LabError, paths
from labkit.services.part import LabProcess
from labkit.worker import Background, running_worker

log = logging.getLogger("labkit.duty")

TAKE_OVER_SECONDS = 20
LOOK_SECONDS = 0.25
LET_GO_SECONDS = 1
SHORT_WHILE = 0.02
CALL_SECONDS = 60


class Duty:
    """This process's worker and watcher.

    Args:
        background: the event loop that they run on.
        encrypted: write nothing in clear to the Temporal server.
        worker: run a worker while on duty.
        watcher: watch ``data/raw`` while on duty.
    """

    def __init__(
        self, background: Background, encrypted: bool, worker: bool, watcher: bool
    ) -> None:
        self.encrypted, self.worker, self.watcher = encrypted, worker, watcher
        self.relieved_by = ""
        self.notes: list[str] = []
        self.processes: list[LabProcess] = []
        self._background = background
        self._token = uuid4().hex
        self._client: Client | None = None
        self._work: AsyncExitStack | None = None
        self._lock = FileLock(paths().lab / "duty.lock", thread_local=False)
        self._following: asyncio.Task[None] | None = None
        self._newest = False

    @property
    def on(self) -> bool:
        return self._work is not None

    @property
    def client(self) -> Client:
        """The one that the worker uses.

        Raises:
            LabError: there is none yet.
        """
        if self._client is None:
            raise LabError("The lab is not started. Start it: lab = Lab.start()")
        return self._client

    @property
    def server(self) -> str:
        """The address of the Temporal server that it works for; empty before there was one."""
        return self._client.service_client.config.target_host if self._client else ""

    def begin(self, take_over: bool = True) -> None:
        """Join the labs that live: as the newest, which is on duty, or as the oldest.

        Call it when all servers are ready: runs that wait take up their work at once, and must
        not be turned away by what is half started.

        Raises:
            LabError: the Temporal server does not answer; with the mend.
        """
        self._join(take_over)
        self._background.run(self._begin, CALL_SECONDS)

    def end(self) -> None:
        """Off duty for good: the lab before this one, if it lives, takes over. Harmless twice."""
        if not self._background.closed:
            self._background.run(self._end, CALL_SECONDS)

    def _join(self, as_newest: bool) -> None:
        self._newest = as_newest
        me = Owner(Process.current(), self._token, self.encrypted)
        with changing() as state:
            others = [lab for lab in state.labs if lab.process.alive()]
            state.labs = [*others, me] if as_newest else [me, *others]

    async def _begin(self) -> None:
        self._following = asyncio.current_task()  # an interrupted start ends this one, too
        await self._follow_the_record()
        self._following = asyncio.create_task(self._keep_following())

    async def _keep_following(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._follow_the_record()
            except (LabError, RPCError, RuntimeError, OSError) as err:
                log.warning("cannot follow the record: %s", err)

    async def _follow_the_record(self) -> None:
        """Work while this is the newest lab that lives, for the server that is on record."""
        state = State.read()
        if all(lab.token != self._token for lab in state.labs):  # somebody deleted the record
            self._join(as_newest=False)
            state = State.read()
        if self._client is None or recorded_address("temporal") not in (None, self.server):
            await self._leave_work()
            self._client = await connect(self.encrypted)
        newest = state.newest_lab
        if newest is None or newest.token == self._token:
            if not self.on:
                await self._wait_for_the_older()
                await self._start_work()
            self._hold_ports(state)
        elif self.on or not self.relieved_by:
            who, at = f"process {newest.process.pid}", time.strftime("%H:%M:%S")
            took_over = f"A newer lab ({who}) took over at {at}."
            self.relieved_by = took_over if self._newest else f"Another lab ({who}) is on duty."
            await self._leave_work()
            log.warning("%s", self.relieved_by)

    async def _wait_for_the_older(self) -> None:
        deadline = time.monotonic() + TAKE_OVER_SECONDS
        while not self._lock.is_locked and time.monotonic() < deadline:
            with suppress(Timeout):
                self._lock.acquire(timeout=0)
                return
            await asyncio.sleep(SHORT_WHILE)
        self.notes.append(
            "An older lab does not let go. Both work side by side, which harms nothing; "
            "shut its kernel down when you can."
        )

    async def _start_work(self) -> None:
        assert self._client is not None, "it was connected before"
        self._work = AsyncExitStack()
        if self.worker:
            await self._work.enter_async_context(running_worker(self._client))
        if self.watcher:
            from labkit.watcher import Watcher  # loaded meanwhile, not with ``from labkit import``

            await self._work.enter_async_context(Watcher(self._client).running())
        self.relieved_by = ""
        log.info("on duty, encrypted=%s", self.encrypted)

    def _hold_ports(self, state: State) -> None:
        """Keep other labs off the ports of this one's servers."""
        for server in state.services.values():
            if not server.external:
                hold(int(server.address.rsplit(":", 1)[1]))

    async def _leave_work(self) -> None:
        while self.processes:
            await asyncio.to_thread(self.processes.pop().stop)
        if self._work:
            work, self._work = self._work, None
            await self._let_go(work)
            log.info("off duty")
        self._lock.release(force=True)
        let_go()

    async def _let_go(self, work: AsyncExitStack) -> None:
        """Let activities end and say so to the server; if it does not answer, say it to nobody."""
        closing = asyncio.create_task(work.aclose())
        while not (await asyncio.wait([closing], timeout=LET_GO_SECONDS))[0]:
            try:
                assert self._client is not None, "there is a worker, so there is a client"
                second = timedelta(seconds=1)
                await self._client.service_client.check_health(timeout=second)
            except RPCError:
                log.warning("The Temporal server does not answer: its worker is left as it is.")
                return
        await closing

    async def _end(self) -> None:
        if self._following:
            self._following.cancel()
            await asyncio.wait([self._following])
        await self._leave_work()
        with changing() as state:
            state.labs = [lab for lab in state.labs if lab.token != self._token]
