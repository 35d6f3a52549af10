"""``python -m tests.workflow.record``: keep a history of each kind of run that today's code makes.

They go into ``histories/<version>``, with the version of ``pyproject.toml``. Those of former
versions stay: runs of theirs may wait still, and ``test_replay_gate.py`` replays all of them.
"""

import asyncio
import base64
import dataclasses
import json
import logging
import re
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError
from temporalio.testing import TimeSkipper

from labkit.ask.history import timers
from labkit.ask.operate import run_again
from labkit.encryption import EncryptionCodec
from labkit.pipeline.listing import A_MOMENT
from tests.workflow.fakes import Bench, Handle, eventually, fails
from tests.workflow.server import dev_server
from tests.workflow.worker import standby

HISTORIES = Path(__file__).with_name("histories")
# Not a secret: what was encrypted for the gate must be readable wherever the gate runs.
KEY = base64.urlsafe_b64encode(b"the recorded histories' own key!").decode()
CONVERTER = dataclasses.replace(
    DataConverter.default, payload_codec=EncryptionCodec([KEY], encrypt=True)
)
SIGNAL_REJECT, SIGNAL_APPROVE = "reject_prod_deployment", "approve_prod_deployment"

Record = Callable[[Bench], Awaitable[Handle]]
KINDS: dict[str, Record] = {}


def kind(record: Record) -> Record:
    """A kind of run: it is named as its function is."""
    KINDS[record.__name__.replace("_", "-")] = record
    return record


@kind
async def approved(bench: Bench) -> Handle:
    return await bench.approved()


@kind
async def approved_by_signal(bench: Bench) -> Handle:
    handle = await bench.awaiting(name="good-2.csv")
    await handle.signal(SIGNAL_APPROVE, "ann")
    return handle


@kind
async def rejected(bench: Bench) -> Handle:
    handle = await bench.awaiting()
    await handle.signal(SIGNAL_REJECT, args=["ann", "too small a gain"])
    return handle


@kind
async def expired(bench: Bench) -> Handle:
    handle = await bench.awaiting(approval_days=90)
    await TimeSkipper(bench.client).fast_forward(handle, timedelta(days=90, minutes=1))
    return handle


@kind
async def waiting(bench: Bench) -> Handle:
    return await bench.awaiting(approval_days=90)


@kind
async def gate_failed(bench: Bench) -> Handle:
    bench.fakes.accuracy = 0.7
    return await bench.start(name="bad.csv")


@kind
async def middle_band(bench: Bench) -> Handle:
    bench.fakes.accuracy = 0.82
    return await bench.start()


@kind
async def coin_toss(bench: Bench) -> Handle:
    return await bench.approved(name="abalone.csv")


@kind
async def retried(bench: Bench) -> Handle:
    bench.fakes.on["log_experiment"] = fails(times=2)
    return await bench.approved()


@kind
async def asked_anew(bench: Bench) -> Handle:
    """The platform fails: each asking has attempts of its own."""
    refuse(bench, "deploy_to_dev", 3, ApplicationError("down", type="ModelServerUnavailable"))
    return await bench.approved()


@kind
async def prod_failed(bench: Bench) -> Handle:
    bench.fakes.on["deploy_to_prod"] = fails()
    return await bench.approved()


@kind
async def crashed(bench: Bench) -> Handle:
    """The worker with the run in its memory is killed, and another one goes on."""
    address = bench.client.service_client.config.target_host
    with standby(address, bench.queue) as first:
        assert first.stdin
        first.stdin.write(b".")
        async with bench.worker(workflows=[]):
            handle = await bench.start()
            await eventually(lambda: asked(handle), lambda number: number == 1)
        first.kill()
        first.wait()
    async with bench.worker():
        await bench.status(handle)
        await handle.signal(SIGNAL_APPROVE, "ann")
        await handle.result()
    return handle


@kind
async def silent(bench: Bench) -> Handle:
    """The first attempt's worker is never heard of again, as after a crash."""

    async def behave(request: Any, attempt: int) -> None:
        if attempt == 1:
            activity.raise_complete_async()

    bench.fakes.on["train_model"] = behave
    return await bench.approved()


@kind
async def reset(bench: Bench) -> Handle:
    refuse(bench, "deploy_to_dev", 1, ApplicationError("broken", non_retryable=True))
    handle = await bench.start()
    await ended(handle)
    await run_again(bench.client, handle.id)
    again: Handle = bench.client.get_workflow_handle(handle.id)
    await bench.until(again, "awaiting_prod_approval")
    await again.signal(SIGNAL_APPROVE, "ann")
    return again


@kind
async def encrypted(bench: Bench) -> Handle:
    bench.client = Client(**bench.client.config() | {"data_converter": CONVERTER})
    async with bench.worker():
        handle = await bench.approved()
        await handle.result()
    return handle


@kind
async def cancelled_at_work(bench: Bench) -> Handle:
    async def hang(request: Any, attempt: int) -> None:
        await asyncio.Event().wait()

    bench.fakes.on["train_model"] = hang
    handle = await bench.start()
    await bench.until(handle, "model_training")
    await handle.cancel()
    return handle


@kind
async def cancelled_while_it_waits(bench: Bench) -> Handle:
    handle = await bench.awaiting()
    await handle.cancel()
    return handle


# These have a worker of their own, and these are kept as they stand.
OWN_WORKER, OPEN = {"crashed", "encrypted"}, {"waiting"}


def refuse(bench: Bench, name: str, times: int, error: Exception) -> None:
    """An activity fails at its first calls, whatever the number of the attempt."""

    def behave(request: Any, attempt: int) -> None:
        if bench.fakes.order.count(name) <= times:
            raise error

    bench.fakes.on[name] = behave


async def asked(handle: Handle) -> int:
    """How many timers of an approval were started."""
    return sum(wait != A_MOMENT for wait in timers(await handle.fetch_history()))


async def ended(handle: Handle) -> None:
    with suppress(WorkflowFailureError):
        await handle.result()


async def record(name: str, client: Client) -> str:
    """Make a run of that kind, and give its history as text without traces of this machine."""
    bench = Bench(client)
    if name in OWN_WORKER:
        handle = await KINDS[name](bench)
    else:
        async with bench.worker():
            handle = await KINDS[name](bench)
            if name not in OPEN:
                await ended(handle)
    return anonymous((await handle.fetch_history()).to_json())


def anonymous(text: str) -> str:
    """Without stack traces, which name files, and without the names of processes."""
    plain = json.dumps(json.loads(text), indent=1)
    plain = re.sub(r'"stackTrace": "(?:[^"\\]|\\.)*"', '"stackTrace": ""', plain)
    return re.sub(r'"\d+@[^"]*"', '"worker"', plain) + "\n"


def main() -> None:
    folder = HISTORIES / version("labkit")
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)  # they fail on purpose

    async def record_all(address: str) -> dict[str, str]:
        client = await Client.connect(address, identity="recorder")
        return {name: await record(name, client) for name in KINDS}

    with dev_server() as address:
        recorded = asyncio.run(record_all(address))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in recorded.items():
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    print(f"{len(recorded)} histories are in {folder.relative_to(HISTORIES.parent)}.")


if __name__ == "__main__":
    main()
