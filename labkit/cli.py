"""The command line: ``python -m labkit COMMAND``."""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from temporalio.client import Client
from temporalio.service import RPCError

from labkit import jupyter, services
from labkit.ask.client import connect
from labkit.core.files import write_atomically
from labkit.core.passed_over import read_passed_over
from labkit.core.process import STOP_SIGNALS, Process, on_stop, until
from labkit.core.record import State
from labkit.core.settings import LabError, paths

T = TypeVar("T")
LISTED_AT_MOST = 50
FOR_EVER = float("inf")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, 1 when something is wrong (with the mend on stderr), 2 for bad usage.
    """
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown and options.run not in (_lab, _dashboard):
        parser.error(f"unknown: {' '.join(unknown)}")
    options.jupyter = unknown
    on_stop(_interrupt)  # at any moment, cleanly
    try:
        return options.run(options) or 0
    except LabError as err:
        print(f"labkit: {err}", file=sys.stderr)
        return 1
    except RPCError as err:
        print(f"labkit: the Temporal server says: {err.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _interrupt() -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m labkit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[Any], int | None], name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    command(_lab, "lab", "open JupyterLab at notebook 00; takes its options, too")
    command(_dashboard, "dashboard", "the dashboard as a page of its own; takes Voilà's options")
    for run, name, text in (
        (_up, "up", "servers, worker and watcher, until Ctrl-C"),
        (_worker, "worker", "a worker alone, until Ctrl-C"),
        (_watch, "watch", "a watcher alone, until Ctrl-C"),
    ):
        added = command(run, name, text)
        added.add_argument("--encrypted", action="store_true", help="write only ciphertext")
        if run is not _up:
            added.add_argument("--parent", type=int, metavar="PID", help="end when that one has")
    codec = command(_codec_server, "codec-server", "clear text for the Web UI and the CLI")
    codec.add_argument("--port", type=int, default=8899, help="this one, or the next free one")
    for run, name in ((_start, "start"), (_stop, "stop"), (_kill, "kill")):
        command(run, name, f"{name} one server").add_argument(
            "service", choices=list(services.SERVICES)
        )
    status = command(_status, "status", "the servers and the runs, or one run")
    status.add_argument("id", nargs="?", help="a workflow id")
    status.add_argument("--json", action="store_true", help="for programs")
    approve = command(_approve, "approve", "approve a model for prod")
    approve.add_argument("id", help="the workflow id")
    approve.add_argument("--by", default="", metavar="NAME")
    reject = command(_reject, "reject", "reject a model for prod")
    reject.add_argument("id", help="the workflow id")
    reject.add_argument("--by", default="", metavar="NAME")
    reject.add_argument("--reason", default="", metavar="TEXT")
    rescue = command(_rescue, "rescue", "send a stuck run back to what can be replayed")
    rescue.add_argument("id", help="the workflow id")
    doctor = command(_doctor, "doctor", "check this machine and this lab")
    doctor.add_argument("--fix", action="store_true", help="mend what can be mended")
    describe = command(_describe, "describe", "write a first description of a CSV of your own")
    describe.add_argument("file", type=Path, help="a CSV with a header line")
    describe.add_argument("--target", default="", metavar="COLUMN", help="what to predict")
    command(_down, "down", "stop everything that this lab started")
    command(_reset, "reset", "down, with its open workflows ended and what runs made deleted")
    return parser


def _lab(options: argparse.Namespace) -> int:
    return jupyter.lab(options.jupyter)


def _dashboard(options: argparse.Namespace) -> None:
    jupyter.dashboard(options.jupyter)


def _up(options: argparse.Namespace) -> None:
    from labkit.lab import Lab

    lab = Lab.start(encrypted=options.encrypted, what="up")
    try:
        print(lab, "ready", sep="\n", flush=True)
        said: set[str] = set()
        while True:
            while not lab.relieved_by:
                said |= _say_passed_over(said)
                time.sleep(0.2)
            lab.say_if_relieved()
            until(lambda: not lab.relieved_by, FOR_EVER)
            print("This lab is on duty again.", flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        lab.stop()


def _say_passed_over(said: Collection[str] = ()) -> set[str]:
    """Print what the watcher passed over, and was not said before; return it."""
    lines = {f"passed over: {name} {why}" for name, why in read_passed_over().items()} - set(said)
    for line in sorted(lines):
        print(line, flush=True)
    return lines


def _worker(options: argparse.Namespace) -> None:
    from labkit.worker import running_worker

    _alone("worker", options, running_worker)


def _watch(options: argparse.Namespace) -> None:
    from labkit.watcher import Watcher

    _alone("watch", options, lambda client: Watcher(client).running())


def _alone(
    what: str,
    options: argparse.Namespace,
    part: Callable[[Client], AbstractAsyncContextManager[Any]],
) -> None:
    """Run one part of the lab in this process until a signal, or its parent's end, ends it."""
    from labkit.worker import log_to_file

    stopped = _stop_event()
    parent = Process.of(options.parent or os.getpid())

    async def run() -> None:
        async with part(await connect(options.encrypted, identity=f"{what}-{os.getpid()}")):
            print("ready", flush=True)
            while not stopped.is_set() and parent and parent.alive():
                await asyncio.sleep(0.05)

    log_to_file(what)
    services.join(what)
    try:
        asyncio.run(run())
    finally:
        services.leave()


def _stop_event() -> threading.Event:
    """An event that the signals set which otherwise interrupt a command."""
    stopped = threading.Event()
    for name in STOP_SIGNALS:
        if signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, lambda *_: stopped.set())
    return stopped


def _codec_server(options: argparse.Namespace) -> None:
    from labkit import codec_server

    stopped = _stop_event()
    services.prepare()
    services.join("codec-server")
    try:
        with codec_server.running(options.port) as address:
            print(f"{address}  (for the CLI, with --codec-auth 'Bearer TOKEN')")
            print(f"{address}/TOKEN  (for the Web UI)")
            print("TOKEN is LABKIT_CODEC_TOKEN in .env.", "ready", sep="\n", flush=True)
            stopped.wait()
    finally:
        services.leave()


def _start(options: argparse.Namespace) -> None:
    for note in services.start(options.service):
        print(note)
    print(f"{options.service} runs at {services.SERVICES[options.service].address()}")


def _stop(options: argparse.Namespace) -> None:
    services.stop(options.service)
    print(f"{options.service} is stopped")


def _kill(options: argparse.Namespace) -> None:
    services.stop(options.service, hard=True)
    print(f"{options.service} is killed")


def _status(options: argparse.Namespace) -> None:
    if options.id:
        from labkit.ask.look import look

        view = _call(lambda client: look(client, options.id))
        print(json.dumps(asdict(view.status), indent=2) if options.json else view.text())
        return
    servers = services.status()
    if options.json:
        print(json.dumps({"services": servers}, indent=2))
        return
    for name, server in servers.items():
        running = "running" if server["running"] else "stopped"
        print(f"{name:<10}{server['address']:<28}{running}")
    if servers.get("temporal", {}).get("running"):
        print(*_call(_list_runs), sep="\n")
    else:
        print("The Temporal server is not running. Start everything: python -m labkit up")
    _say_passed_over()


async def _list_runs(client: Client) -> list[str]:
    from labkit.ask.runs import list_rows

    rows = await list_rows(client, LISTED_AT_MOST)
    lines = [f"{row.id:<48} {row.held or row.state:<12}{row.step}" for row in rows]
    return lines or ["No runs yet. Drop a CSV into data/raw/."]


def _approve(options: argparse.Namespace) -> None:
    _decide(options.id, True, options.by)
    print(f"{options.id} is approved for prod")


def _reject(options: argparse.Namespace) -> None:
    _decide(options.id, False, options.by, options.reason)
    print(f"{options.id} is rejected")


def _rescue(options: argparse.Namespace) -> None:
    from labkit.ask.operate import rescue

    print(_call(lambda client: rescue(client, options.id)))


def _decide(id: str, approved: bool, by: str, reason: str = "") -> None:
    from labkit.ask.operate import decide
    from labkit.pipeline.messages import Decision

    _call(lambda client: decide(client, id, Decision(approved, by, reason)))


def _call(make: Callable[[Client], Awaitable[T]]) -> T:
    """Run ``await make(client)``, encrypted when the lab on duty is."""

    async def call() -> T:
        owner = State.read().newest_lab
        return await make(await connect(encrypted=bool(owner and owner.encrypted)))

    return asyncio.run(call())


def _doctor(options: argparse.Namespace) -> int:
    from labkit.doctor import examine

    return 0 if examine(fix=options.fix) else 1


def _describe(options: argparse.Namespace) -> None:
    from labkit.pipeline.work.sketch import sketch

    text, path = sketch(options.file, options.target), paths().config / f"{options.file.stem}.yml"
    if path.exists():
        raise LabError(f"{path} is there already. Move it away, or rename {options.file}.")
    write_atomically(path, text.encode())
    print(f"{path} describes {options.file.name}. Read it, mend what it guessed, and let it count:")
    print(f"cp {paths().name(path)} config/dataset.yml")


def _down(options: argparse.Namespace) -> None:
    for ended in services.end_commands():
        print(f"ended {ended}")
    services.down()
    print("everything that this lab started is stopped")


def _reset(options: argparse.Namespace) -> None:
    from labkit import faults
    from labkit.ask.runs import terminate_open
    from labkit.pipeline.work.tracking import database

    services.end_commands()
    services.start("temporal", "postgres")
    ended = _call(lambda client: terminate_open(client, "python -m labkit reset"))
    print(f"terminated {ended} open workflows")
    try:
        with database() as connection, connection.cursor() as cursor:
            cursor.execute("TRUNCATE experiments, approvals")
    except Exception as err:
        print(f"the tables could not be emptied: {getattr(err, 'message', err)}")
    services.down()
    for folder in (paths().processed, paths().models, paths().deployments, paths().logs):
        shutil.rmtree(folder.resolve(), ignore_errors=True)  # it may be a link to another disk
        folder.resolve().mkdir(parents=True, exist_ok=True)
    faults.clear()
    paths().make()
    print("deleted what the runs had made; the files in data/raw are still there")
