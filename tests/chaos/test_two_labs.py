"""Two labs on one machine that want the same ports: neither ever loses a run to the other."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from shutil import rmtree

import psutil
import pytest
from temporalio.client import WorkflowExecutionStatus

from labkit.core.envfile import ensure_env, write_env
from labkit.core.record import State
from labkit.core.settings import paths
from labkit.pipeline.work.tracking import database
from tests.chaos import checks
from tests.chaos.conftest import SEEDS
from tests.conftest import assert_no_secret_in_logs, enter, make_home
from tests.lab.test_lab import small
from tests.ports import BLOCK

ACTIONS = int(os.environ.get("CHAOS_STARTS") or 2) * 3
LONG = 120
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(2 * LONG + 40 * ACTIONS)]


class Neighbour:
    """One of the labs: ``python -m labkit up`` in a process of its own, when it is up at all."""

    def __init__(self, name: str, patch: pytest.MonkeyPatch, ports: int) -> None:
        self.name, self.patch, self.ports, self.home = name, patch, ports, make_home()
        self.process: subprocess.Popen[bytes] | None = None
        self.dropped = 0
        self.enter()
        ensure_env()
        write_env(LABKIT_SPEED="10")
        paths().make()

    def enter(self) -> None:
        enter(self.patch, self.home)
        self.patch.setenv("LABKIT_PORTS", str(self.ports))

    def start(self) -> None:
        """Begin to start it: the other one may do something before it is ready."""
        if not self.process or self.process.poll() is not None:
            log = (self.home / "up.txt").open("wb")
            command = [sys.executable, "-m", "labkit", "up"]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(LONG)

    def kill(self) -> None:
        """The lab alone: its servers go on without it."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def kill_servers(self) -> None:
        for server in State.read().services.values():
            if server.process and server.process.alive():
                psutil.Process(server.process.pid).kill()

    def drop(self, source: Path) -> None:
        self.dropped += 1
        hidden = paths().raw / ".hidden"
        hidden.write_bytes(source.read_bytes())
        hidden.rename(paths().raw / f"good-{self.name}-{self.dropped}.csv")

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + LONG
        while "ready" not in (self.home / "up.txt").read_text().splitlines():
            assert time.monotonic() < deadline, (self.home / "up.txt").read_text()
            time.sleep(0.1)

    def rows(self) -> list[str]:
        with database() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT workflow_id FROM experiments")
            return [id for (id,) in cursor.fetchall()]

    def lose_nothing(self) -> None:
        """Each of its drops is tracked, once, in its own database, and none has failed."""
        deadline = time.monotonic() + LONG
        while len(self.rows()) < self.dropped and time.monotonic() < deadline:
            time.sleep(0.3)
        runs = asyncio.run(checks.look_at_all())
        reasons = [run.report.failure_reason for run in runs]
        assert len(runs) == self.dropped, "each drop started one workflow"
        assert not any(run.status == WorkflowExecutionStatus.FAILED for run in runs), reasons
        assert sorted(self.rows()) == sorted(run.id for run in runs)
        assert asyncio.run(checks.unreplayable()) == []

    def close(self) -> None:
        self.enter()
        self.kill()
        subprocess.run([sys.executable, "-m", "labkit", "down"], capture_output=True)
        assert_no_secret_in_logs(self.home)
        rmtree(self.home)


@pytest.fixture
def labs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Neighbour]]:
    ports = BLOCK.next()
    labs = [Neighbour(name, monkeypatch, ports) for name in ("one", "other")]
    yield labs
    for lab in labs:
        lab.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_two_labs_come_and_go(labs: list[Neighbour], tmp_path: Path, seed: int) -> None:
    rng, table = Random(seed), small(tmp_path)
    print(f"Replay: make chaos SEEDS={seed} ARGS='-k two_labs'")
    for lab in labs:
        lab.enter()
        lab.drop(table)
        lab.start()
    for _ in range(ACTIONS):
        lab = rng.choice(labs)
        actions: list[Callable[[], None]] = [lab.start, lab.stop, lab.kill, lab.kill_servers]
        action, pause = rng.choice([*actions, lab.start]), rng.uniform(0, 5)
        print(f"after {pause:.1f} s: {action.__name__} the {lab.name}")
        time.sleep(pause)
        lab.enter()
        lab.drop(table)
        action()
    for lab in labs:
        lab.enter()
        lab.stop()
        lab.start()
    for lab in labs:
        lab.enter()
        lab.wait_until_ready()
        lab.lose_nothing()
    for lab in labs:
        lab.enter()
        lab.stop()
        checks.no_process_is_left()
