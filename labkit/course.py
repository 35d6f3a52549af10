"""The course as a whole: what a lesson leaves behind, how far you are, and where you may begin."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from temporalio.client import Client
from temporalio.service import RPCError

from labkit import faults, services
from labkit.ask import operate
from labkit.ask.describe import describe
from labkit.ask.runs import OPEN, WAITING, Row, list_rows
from labkit.bench import record
from labkit.bench.clean import notebook_of
from labkit.core.journal import dropped
from labkit.core.settings import LabError, paths
from labkit.duty import Duty
from labkit.pipeline.messages import Decision
from labkit.pipeline.work.registry import Registry
from labkit.run import Run
from labkit.scenarios import Scenarios
from labkit.views.live import in_jupyter

T = TypeVar("T")
FIRST_AFTER_PROD = "02"  # notebook 01 brings a model to prod
END_SECONDS = 15
MANY = 1_000_000


class Lab(Protocol):
    """As much of the lab as is needed here."""

    duty: Duty
    scenarios: Scenarios

    @property
    def encrypted(self) -> bool: ...

    @property
    def relieved_by(self) -> str: ...

    @classmethod
    def start(cls) -> Any: ...

    def call(self, make: Callable[[Client], Awaitable[T]]) -> T: ...

    def drop(self, name: str) -> Run: ...

    def run(self, id: str) -> Run: ...


def tidy(lab: Lab) -> None:
    """Put right what lessons have broken, and end what still waits. Harmless twice.

    Servers run again, no activity fails on purpose, and processes of workers and watchers end. A
    run that waits for approval is rejected, and one at work is cancelled. Only runs of
    ``lab.drop`` count: one of a file that you copied into ``data/raw`` goes on. Your files, your
    answers and your settings stay as they are.

    Raises:
        LabError: the lab is stopped.
    """
    said = [*_put_right(lab), *lab.call(_end_runs)]
    print("\n".join(said) or "Nothing waits, and nothing is broken.")


def _put_right(lab: Lab) -> Iterator[str]:
    if not lab.duty.on and not lab.relieved_by:
        raise LabError("The lab is stopped. Start it: lab = Lab.start()")
    lab.scenarios.put_back()
    if found := faults.read_fault():
        faults.clear()
        yield f"{found.activity} fails on purpose no more."
    stopped = [name for name, state in lab.scenarios.states().items() if state == "stopped"]
    if stopped:
        services.start(*stopped)
        yield f"{' and '.join(stopped)} had been stopped, and run again."
    processes = [it for it in lab.duty.processes if it.process.alive()]
    sealed = lab.encrypted
    if not lab.relieved_by:
        type(lab).start()  # with a plain worker and a watcher, as at first
    for process in processes:
        process.stop()
    if processes:
        yield f"Ended: {', '.join(sorted(f'a {it.what} process' for it in processes))}."
    if sealed and not lab.encrypted:
        yield "The lab writes plain text again."


async def _end_runs(client: Client) -> list[str]:
    ours, rows = dropped(), await list_rows(client, MANY, OPEN)
    mine = [row for row in rows if row.id in ours]
    waiting = [row for row in mine if row.status == WAITING]
    rejected = set(filter(None, await _each(_reject(client, row.id) for row in waiting)))
    working = [row for row in mine if row.id not in rejected]
    cancelled = set(filter(None, await _each(_cancel(client, row) for row in working)))
    await _each(_closed(client, id) for id in rejected)
    left, others = len(working) - len(cancelled), len(rows) - len(mine)
    return [
        f"{_runs(number)} {what}"
        for number, what in (
            (len(rejected), "waited for approval: rejected, because the lesson is over."),
            (len(cancelled), "had not ended: cancelled."),
            (left, "could not be cancelled: terminated."),
            (others, "of your own: left as it is."),
        )
        if number
    ]


async def _each(calls: Iterable[Awaitable[T]]) -> list[T]:
    return await asyncio.gather(*calls)


async def _reject(client: Client, id: str) -> str:
    """Its id; empty when it cannot take a decision."""
    with suppress(LabError):
        decision = Decision(False, "lab.tidy", "the lesson is over")
        await operate.decide(client, id, decision)
        return id
    return ""


async def _cancel(client: Client, row: Row) -> str:
    """Its id; empty when it had to be terminated. One that is stuck or paused cannot cancel."""
    handle = client.get_workflow_handle(row.id)
    with suppress(RPCError):  # it has just ended
        if not row.held:
            await handle.cancel()
            if await _closed(client, row.id):
                return row.id
        await handle.terminate("the lesson is over")
        return ""
    return row.id


async def _closed(client: Client, id: str) -> bool:
    """Wait until a run has ended, at most so long."""
    for _ in range(END_SECONDS * 20):
        if not (await describe(client, id)).open:
            return True
        await asyncio.sleep(0.05)
    return False


def _runs(number: int) -> str:
    return f"{number} run{'s' if number != 1 else ''}"


def why(lab: Lab, run: Run | str) -> None:
    """Print why a run does not go on, and what to do, from facts of the server.

    Args:
        run: a run, or a workflow id; of any workflow.

    Raises:
        LabError: there is no such run, or no server answers.
    """
    (lab.run(run) if isinstance(run, str) else run).why()


def progress() -> None:
    """Print how far you are in each notebook, and what you predicted."""
    print(record.progress())
    for key, kept in sorted(record.read().items()):
        if "said" in kept:
            was = f"It was {kept['was']}." if "was" in kept else "You have not compared it yet."
            print(f"{key[:2]}  predicted {key[3:]}: {kept['said']}. {was}")


def jump_to(lab: Lab, number: str) -> None:
    """Bring the lab to where a notebook begins, without those before it.

    Args:
        number: such as ``"07"``.

    Raises:
        LabError: there is no such notebook, or the lab is stopped.
    """
    notebook = notebook_of(number)
    tidy(lab)
    if notebook.name >= FIRST_AFTER_PROD and Registry(paths().deployments / "prod").current():
        print("A model serves on prod already.")
    elif notebook.name >= FIRST_AFTER_PROD:
        run = lab.drop("good.csv")
        run.follow(until="awaiting_prod_approval")
        run.approve(by="lab.jump_to")
        run.follow()
        lab.drop("bad.csv").follow()
    print(f"Open {notebook.name}, and run it from its first cell.")


def explain_missing_names() -> None:
    """In Jupyter: a cell that needs a name of another cell says so, in a sentence."""
    if in_jupyter():
        from labkit.bench import missing

        missing.explain()
