"""Commands of the lab in processes of their own, and how tests wait for them."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from queue import Empty, Queue

import psutil
import pytest
from temporalio.service import RPCError

from labkit.ask.client import connect
from labkit.ask.runs import Row, list_rows
from labkit.cli import main
from labkit.core.process import STOP_SIGNALS
from labkit.core.settings import LabError, paths

LONG = 90
ROWS = 1000  # train in half a second, and pass the gate
LABKIT = [sys.executable, "-m", "labkit"]


def hear_signals() -> None:
    """Whatever has started the tests may have ignored Ctrl-C, or the end of its terminal."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Command:
    """A command that runs on until it is told to stop."""

    def __init__(self, *arguments: str, nohup: bool = False) -> None:
        self.process = subprocess.Popen(
            [*LABKIT, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONFAULTHANDLER": "1"},
            preexec_fn=None if nohup else hear_signals,
        )
        self.lines: Queue[str] = Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def wait_for(self, word: str, seconds: float = LONG) -> list[str]:
        """The lines up to the first that holds a word."""
        seen: list[str] = []
        deadline = time.monotonic() + seconds
        while not seen or word not in seen[-1]:
            try:
                seen.append(self.lines.get(timeout=max(0, deadline - time.monotonic())))
            except Empty:
                pytest.fail(f"no {word!r} within {seconds} s in {seen}")
        return seen

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Send it a signal, and wait; returns its exit status."""
        self.process.send_signal(signum)
        try:
            return self.process.wait(LONG)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # it says where each of its threads is
            self.reader.join(LONG)
            said = "\n".join(self.lines.queue)
            pytest.fail(f"{self.process.args} had not ended after {LONG} s:\n{said}")

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))


def labkit(*arguments: str, code: int = 0) -> str:
    """Run a command to its end; returns what it printed."""
    done = subprocess.run([*LABKIT, *arguments], capture_output=True, text=True, timeout=LONG)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return what_it_said(code, done.stdout, done.stderr)


def here(*arguments: str, code: int = 0) -> str:
    """As ``labkit``, in this process: for what a command finds and says, not for how it ends."""
    handlers = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = main(arguments)
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    assert status == code, f"{arguments}: {status}\n{out.getvalue()}{err.getvalue()}"
    return what_it_said(code, out.getvalue(), err.getvalue())


def what_it_said(code: int, out: str, err: str) -> str:
    """All that a command has printed. What is wrong is one line, and no traceback."""
    assert "Traceback" not in err
    if code == 1 and err:
        assert err.startswith("labkit: ") and err.count("\n") == 1, err
    return out + err


def processes_of(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()) + process.environ().get("LABKIT_HOME", ""):
                found.append(process)
        except psutil.Error:
            pass
    return [process for process in found if process.pid != os.getpid()]


def is_gone(home: Path, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while left := processes_of(home):
        if time.monotonic() > deadline:
            print(*(process.as_dict(["pid", "cmdline", "status"]) for process in left), sep="\n")
            return False
        time.sleep(0.1)
    return True


def drop(name: str) -> str:
    """Drop some rows and wait until their run awaits approval; returns the workflow's id."""
    hidden = paths().raw / f".{name}"
    rows = paths().example.read_text().splitlines(keepends=True)[:ROWS]
    hidden.write_text("".join(rows))
    hidden.rename(paths().raw / name)
    return wait_for_run(Path(name).stem, "awaiting_prod_approval")


def wait_for_run(stem: str, word: str) -> str:
    """Ask in this process, not by a command each time, which would keep a core busy."""

    async def ask() -> list[Row]:
        return await list_rows(await connect())

    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        with suppress(LabError, RPCError):
            for row in asyncio.run(ask()):
                if row.id.endswith(f"-{stem}") and word in (row.state, row.step):
                    return row.id
        time.sleep(0.1)
    pytest.fail(f"no run of {stem} came to {word}: {labkit('status')}")
