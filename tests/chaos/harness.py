"""Servers, workers, a watcher, people who decide, and faults that hit all of them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePath
from random import Random
from typing import Any

import psutil
from temporalio.client import Client
from temporalio.exceptions import TemporalError
from temporalio.service import RPCError

from labkit import services
from labkit.ask.client import connect
from labkit.core.record import State
from labkit.core.settings import LabError, paths
from labkit.pipeline.messages import Decision
from labkit.pipeline.names import workflow_id
from tests.chaos import clock
from tests.chaos.disk import make_disk, make_server_disk, slow
from tests.chaos.plan import Step, make_plan

WORKERS = 2
OPEN = "WorkflowType='MLOpsWorkflow' AND ExecutionStatus='Running'"
WAITING = f"{OPEN} AND PipelineStep='awaiting_prod_approval'"
RPC_SECONDS = 3
WRITER = "import sys, time; f = open(sys.argv[1], 'w'); f.write(sys.stdin.read()); f.flush()"


@dataclass(frozen=True)
class Drop:
    """One file as it was dropped: ``valid`` says that its bytes can be trained on."""

    path: Path
    id: str
    valid: bool


class Part:
    """``python -m labkit worker`` or ``watch``: started anew whenever it is gone."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.process: subprocess.Popen[bytes] | None = None
        self.log = paths().logs / f"chaos-{what}.txt"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "labkit", self.what], stdout=log, stderr=log
            )

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def pids(self) -> list[int]:
        return [self.process.pid] if self.process and self.running() else []

    def end(self) -> int:
        assert self.process
        self.process.terminate()
        return self.process.wait(60)


class Chaos:
    """One run: what happened is in ``drops``, ``survived`` and ``story``."""

    def __init__(self, seed: int, pipelines: int, faults: int, long: bool) -> None:
        self.plan = make_plan(seed, pipelines, faults, long)
        self.seed, self.rng = seed, Random(seed)
        self.drops: dict[str, Drop] = {}
        self.survived: Counter[str] = Counter()
        self.story: list[str] = []
        self.decided: dict[str, bool] = {}
        self.started = time.monotonic()
        self.mending: set[asyncio.Task[None]] = set()
        self.lines = paths().example.read_text(encoding="utf-8").splitlines()
        self.disk = make_disk(paths().data, 64 + 6 * pipelines, self._worker_pids)
        self.server_disk = make_server_disk(paths().lab, 512 + 4 * pipelines)
        services.join("lab")
        services.start()
        self.watcher = Part("watch")
        self.workers = [Part("worker") for _ in range(WORKERS)]
        self.locks = {name: asyncio.Lock() for name in (*services.SERVICES, "disk", "clock")}

    async def run(self, seconds: float) -> bool:
        """All steps of the plan, then wait until every workflow has ended.

        Returns:
            Whether that came to its end within so many seconds.
        """
        parts = (self._carry_out(), self._keep_parts_running(), self._decide_for_ever())
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            async with asyncio.timeout(seconds):
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            return True
        except TimeoutError:
            return False
        finally:
            for task in (*tasks, *self.mending):
                task.cancel()
            await asyncio.gather(*tasks, *self.mending, return_exceptions=True)

    async def _carry_out(self) -> None:
        for step in self.plan:
            await asyncio.sleep(step.pause)
            self.say(str(step))
            self._do(step)
        await asyncio.gather(*self.mending)
        await self._all_ended()

    def close(self) -> None:
        """End every process, whatever state they are in."""
        for part in (*self.workers, self.watcher):
            part.kill()
        services.down()
        for disk in (self.disk, self.server_disk):
            disk.close()

    def say(self, line: str) -> None:
        self.story.append(f"{time.monotonic() - self.started:7.2f} s  {line}")

    # --- what the plan asks for -------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        rng = Random(f"{self.seed}-{step.number}")
        task = asyncio.create_task(self._fault(step, rng) if step.fault else self._drop(step, rng))
        self.mending.add(task)

    async def _fault(self, step: Step, rng: Random) -> None:
        kind, _, how = step.fault.partition(" ")
        hits: dict[str, Callable[[], Awaitable[None]]] = {
            "worker": lambda: self._hit_part(rng.choice(self.workers), how, step.lasts),
            "watcher": lambda: self._hit_part(self.watcher, how, step.lasts),
            "disk": lambda: self._fill_disk(step.lasts),
            "servers'": lambda: self._hit_server_disk(how, step.lasts),
            "clock": lambda: self._set_clock_back(step.lasts),
            "garbage": lambda: self._garbage(step, rng),
            "half": lambda: self._half(step, rng),
            "overwritten": lambda: self._overwrite(step, rng, same_time=True),
            "dropped": lambda: self._overwrite(step, rng, same_time=False),
        }
        await hits.get(kind, lambda: self._outage(kind, how, step.lasts))()
        self.survived[step.fault] += 1
        self.say(f"step {step.number} is mended: {step.fault}")

    async def _drop(self, step: Step, rng: Random) -> None:
        name = f"{rng.choice(['good', 'good', 'bad', 'any'])}-{step.number}.csv"
        await self._write(name, self._table(rng), valid=True)

    def _table(self, rng: Random) -> str:
        rows = rng.choices(self.lines[1:], k=rng.randint(200, 800))
        return "\n".join([self.lines[0], *rows])

    async def _write(self, name: str, text: str, valid: bool, mtime: int | None = None) -> Drop:
        """Drop a file as any program may: hidden first, then renamed; again when it fails."""
        path = paths().raw / name
        while True:
            try:
                hidden = path.with_name(f".{name}.harness")
                hidden.write_text(text, encoding="utf-8")
                if mtime:
                    os.utime(hidden, ns=(mtime, mtime))
                hidden.replace(path)
                break
            except OSError:  # the disk is full
                hidden.unlink(missing_ok=True)
                await asyncio.sleep(0.2)
        return self._record(path, valid)

    def _record(self, path: Path, valid: bool) -> Drop:
        drop = Drop(path, workflow_id(PurePath(path.name), path.stat().st_mtime_ns), valid)
        return self.drops.setdefault(drop.id, drop)

    # --- faults -----------------------------------------------------------------------------------

    async def _hit_part(self, part: Part, how: str, seconds: float) -> None:
        if how == "frozen":
            await self._freeze(part.pids(), seconds)
            return
        part.kill()
        await asyncio.sleep(seconds)  # the keeper starts another one, perhaps before

    async def _outage(self, name: str, how: str, seconds: float) -> None:
        async with self.locks[name]:
            process = State.read().services[services.SERVICES[name].records[0]].process
            assert process, f"{name} runs when a fault hits it"
            if how == "frozen":
                children = psutil.Process(process.pid).children(recursive=True)
                await self._freeze([process.pid, *(child.pid for child in children)], seconds)
                return
            if how in ("stopped fast", "restarted"):
                await asyncio.to_thread(services.stop, name)
            else:
                signum = signal.SIGQUIT if how == "stopped immediately" else signal.SIGKILL
                psutil.Process(process.pid).send_signal(signum)
            await asyncio.sleep(seconds)
            await self._start(name)

    async def _start(self, *names: str) -> None:
        """Start servers that are gone, as often as it takes: another fault may still be there."""
        while True:
            try:
                for note in await asyncio.to_thread(services.start, *names):
                    self.say(note)
                return
            except (LabError, OSError) as err:
                self.say(f"{names} did not start: {str(err)[:300]}")
                await asyncio.sleep(0.3)

    async def _freeze(self, pids: list[int], seconds: float) -> None:
        """Processes that are there and do nothing: neither do they answer, nor hang up."""
        try:
            _signal(signal.SIGSTOP, pids)
            await asyncio.sleep(seconds)
        finally:
            _signal(signal.SIGCONT, pids)

    async def _hit_server_disk(self, how: str, seconds: float) -> None:
        if how == "disk slow":
            with slow(paths().lab):
                await asyncio.sleep(seconds)
            return
        # Nobody takes a server for stopped, or starts one, while it may lie down any moment.
        async with AsyncExitStack() as stack:
            for name in services.SERVICES:
                await stack.enter_async_context(self.locks[name])
            with self.server_disk.full():
                await asyncio.sleep(seconds)
            await self._start()

    async def _set_clock_back(self, seconds: float) -> None:
        async with self.locks["clock"]:
            with clock.set_back():
                await asyncio.sleep(seconds)

    async def _fill_disk(self, seconds: float) -> None:
        async with self.locks["disk"]:
            with self.disk.full():
                await asyncio.sleep(seconds)

    async def _garbage(self, step: Step, rng: Random) -> None:
        await self._write(f"good-garbage-{step.number}.csv", self._noise(rng), valid=False)

    async def _half(self, step: Step, rng: Random) -> None:
        """A program dies while it writes: the file ends in the middle of a line."""
        path = paths().raw / f"good-half-{step.number}.csv"
        text = self._table(rng)[: rng.randint(4000, 8000)].rpartition(",")[0]
        async with self.locks["disk"]:
            writer = subprocess.Popen(
                [sys.executable, "-c", f"{WRITER}; time.sleep(60)", path], stdin=subprocess.PIPE
            )
            assert writer.stdin
            writer.stdin.write(text.encode())
            writer.stdin.close()
            while not (path.exists() and path.stat().st_size):
                await asyncio.sleep(0.01)
            writer.kill()
            writer.wait()
        self._record(path, valid=False)

    async def _overwrite(self, step: Step, rng: Random, same_time: bool) -> None:
        """Once its workflow has started, a file's bytes change: the run keeps those it began with.

        With another modification time it is another drop, of garbage.
        """
        drop = await self._write(f"good-over-{step.number}.csv", self._table(rng), valid=True)
        while not await self._exists(drop.id):
            await asyncio.sleep(0.1)
        mtime = drop.path.stat().st_mtime_ns if same_time else None
        await self._write(drop.path.name, self._noise(rng), valid=False, mtime=mtime)

    def _noise(self, rng: Random) -> str:
        return "\n".join(rng.randbytes(40).hex() for _ in range(60))

    # --- who keeps the lab going ------------------------------------------------------------------

    async def _keep_parts_running(self) -> None:
        """As a service manager would: what is gone is started again."""
        while True:
            for part in (*self.workers, self.watcher):
                if not part.running():
                    part.start()
            await asyncio.sleep(0.1)

    async def _decide_for_ever(self) -> None:
        """People who approve and reject, in any order, by signal and by update."""
        while True:
            with suppress(TemporalError, LabError):
                client = await connect()
                waiting = [run.id async for run in client.list_workflows(WAITING)]
                for id in self.rng.sample(waiting, len(waiting)):
                    await self._decide(client, id)
            await asyncio.sleep(0.3)

    async def _decide(self, client: Client, id: str) -> None:
        rng = Random(f"{self.seed}-decides-{id.rpartition('-')[2]}")
        approved, by_signal = rng.random() < 0.7, rng.random() < 0.5
        handle = client.get_workflow_handle(id)
        limit: dict[str, Any] = {"rpc_timeout": timedelta(seconds=RPC_SECONDS)}
        if not by_signal:  # refused when it is decided before, and the list is behind
            decision = Decision(approved, "chaos", "" if approved else "not today")
            await handle.execute_update("decide_prod_deployment", decision, **limit)
        elif approved:
            await handle.signal("approve_prod_deployment", "chaos", **limit)
        else:
            await handle.signal("reject_prod_deployment", args=["chaos", "not today"], **limit)
        self.decided[id] = approved

    async def _exists(self, id: str) -> bool:
        with suppress(RPCError, LabError):
            await (await connect()).get_workflow_handle(id).describe()
            return True
        return False

    async def _all_ended(self) -> None:
        wanted = len(self.drops)
        while True:
            with suppress(RPCError, LabError):
                client = await connect()
                open_runs = (await client.count_workflows(OPEN)).count
                known = (await client.count_workflows("WorkflowType='MLOpsWorkflow'")).count
                if known >= wanted and not open_runs:
                    return
            await asyncio.sleep(0.3)

    def _worker_pids(self) -> list[int]:
        return [pid for part in self.workers for pid in part.pids()]


def _signal(signum: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
