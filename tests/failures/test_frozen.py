"""Workers that are frozen, and wake up late; servers that are away: nothing comes of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import psutil
import pytest

from labkit import Lab, services
from labkit.ask import history
from labkit.core.journal import attempts_of
from labkit.core.record import State
from labkit.faults import fault
from labkit.run import Run
from tests.failures.conftest import Drop
from tests.failures.test_crash import no_worker, outcomes, serving

__all__ = ["no_worker"]

# A worker that stops itself (SIGSTOP) once, at a place in its work on a deployment.
FREEZES = """
import signal, sys, threading
from labkit.cli import main
from labkit.pipeline.work import deployment
from labkit.pipeline.work.registry import Registry

def freezing(real, wanted):
    def work(*args, **kwargs):
        if not frozen and wanted in map(str, args):
            frozen.append(True)
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread at once
        return real(*args, **kwargs)
    return work

frozen, place = [], sys.argv[1]
if place == "deploy":
    deployment.deploy = freezing(deployment.deploy, "dev")
else:
    Registry.make_note = freezing(Registry.make_note, place)
sys.exit(main(["worker"]))
"""
SECONDS = 60
POLL_SECONDS = 0.05
SHELL = {"sex": "I", "length": 0.3, "diameter": 0.2, "height": 0.07, "whole_weight": 0.1} | {
    "shucked_weight": 0.05, "viscera_weight": 0.03, "shell_weight": 0.04
}  # fmt: skip


def until(true: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(POLL_SECONDS)


@contextmanager
def freezing_worker(place: str) -> Iterator[psutil.Process]:
    with subprocess.Popen(
        [sys.executable, "-c", FREEZES, place], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                if line.strip() == "ready":
                    break
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def frozen(worker: psutil.Process) -> bool:
    return worker.status() == psutil.STATUS_STOPPED


def wake(worker: psutil.Process, run: Run) -> None:
    """Let it go on, and wait until all its late attempts have ended.

    Some of them begin only now: they were handed to it while it was frozen.
    """
    worker.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + SECONDS
    quiet = 0
    while quiet < 3 / POLL_SECONDS:
        assert time.monotonic() < deadline, "its late attempts do not end"
        time.sleep(POLL_SECONDS)
        late = [a for a in attempts_of(run.id) if a.pid == worker.pid]
        quiet = quiet + 1 if all(a.ended for a in late) else 0


@pytest.mark.skipif(os.name != "posix", reason="only here processes can be frozen")
@pytest.mark.parametrize("place", ["deployed", "deploy"])
def test_a_worker_that_wakes_up_after_the_next_deployment(
    no_worker: Lab, drop: Drop, place: str
) -> None:
    with freezing_worker(place) as late:
        first = drop(f"good-frozen-{place}.csv")
        until(lambda: frozen(late))
        with no_worker.worker_process():
            first.follow(until="awaiting_prod_approval")
            second = drop(f"good-next-{place}.csv", rows=1500)
            second.follow(until="awaiting_prod_approval")
            models = [run.status().model_id for run in (first, second)]
            before = serving("dev")
            assert before["deployed"][-2:] == models
            wake(late, first)
            assert serving("dev") == before


@pytest.mark.skipif(os.name != "posix", reason="only here processes can be frozen")
def test_a_worker_that_wakes_up_after_the_model_was_withdrawn(no_worker: Lab, drop: Drop) -> None:
    with freezing_worker("deployed") as late:
        before = serving("dev")
        run = drop("good-withdrawn.csv")
        until(lambda: frozen(late))
        with fault("deployment"), no_worker.worker_process():
            run.follow()
        *lost, refused = [
            (asked.attempts, asked.outcome)
            for asked in history.activities(run.history())
            if asked.activity_id == "deploy_to_dev"
        ]
        assert set(lost) == {(1, "timed out")} and refused == (3, "failed")
        wake(late, run)
        assert serving("dev") == before
        model = run.status().model_id
        url = f"{State.read().services['dev'].address}/models/{model}/predict"
        answer = httpx.post(url, json={"instances": [SHELL]})
        assert answer.status_code == 404


def test_model_servers_that_start_slowly(mine: Lab, drop: Drop) -> None:
    """Far longer than three attempts take."""
    services.stop("models")
    run = drop("good-slow-start.csv")
    until(lambda: len(outcomes(run, "deploy_to_dev")) > 5)
    assert "Mend: python -m labkit start models" in run.status().trouble
    services.start("models")
    run.follow(until="awaiting_prod_approval")
    tried = outcomes(run, "deploy_to_dev")
    assert tried == ["failed"] * (len(tried) - 1) + ["completed"]
    run.prove("deploy_to_dev", attempts=len(tried))


def tried_more_than(number: int, run: Run) -> bool:
    return len(outcomes(run, "deploy_to_dev")) > number


@pytest.mark.skipif(os.name != "posix", reason="only here processes can be frozen")
def test_a_worker_that_is_stopped_amid_each_attempt(no_worker: Lab, drop: Drop) -> None:
    """While the model servers are frozen, a deployment takes long: three clean stops hit it."""
    process = State.read().services["dev"].process
    assert process
    models = psutil.Process(process.pid)
    models.suspend()
    run = drop("good-stopped.csv")
    try:
        for _ in range(3):
            tried = len(outcomes(run, "deploy_to_dev"))
            with no_worker.worker_process():
                until(partial(tried_more_than, tried, run))
    finally:
        models.resume()
    with no_worker.worker_process():
        run.follow(until="awaiting_prod_approval")
    assert outcomes(run, "deploy_to_dev")[-1] == "completed"
    run.prove("deploy_to_dev", attempts=len(outcomes(run, "deploy_to_dev")))
