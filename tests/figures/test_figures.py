"""The figures that the lab promises, measured as ratios within one run, and printed.

The machine may be busy, so each figure has a few tries; the best one is the one that other
programs disturbed least.
"""

import asyncio
import io
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from datetime import UTC
from pathlib import Path, PurePath
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from labkit import Lab, Run, services
from labkit.core.files import sha256
from labkit.core.settings import paths
from labkit.pipeline import activities
from labkit.pipeline.listing import A_MOMENT
from labkit.pipeline.messages import DeployInput, Experiment, PreprocessInput, TrainInput
from labkit.pipeline.names import workflow_id
from labkit.pipeline.work import tracking
from tests.conftest import at, enter, make_home

pytestmark = pytest.mark.figures

# What is promised is a machine's with nothing else to do, and how fast it trains and how fast its
# disk is are two things: `make figures` holds each figure to its promise. After twelve minutes of
# `make test`, two of them have a wider bound, and say so when the promise was not met.
AS_PROMISED = os.environ.get("FIGURES") == "promised"
TRIES = 3
FILES_AT_ONCE = 30
FILES_THAT_WAIT = 300
SECONDS_OF_QUESTIONS = 60


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    home = make_home()
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, home)
        lab = Lab.start()
        run = lab.drop("good-warm-up.csv")
        run.follow(until="awaiting_prod_approval")
        yield lab
        lab.stop()
    shutil.rmtree(home)


def best(measure: Callable[[], float], good_enough: Callable[[float], bool]) -> float:
    """The first figure that is good enough, or the last of a few tries."""
    for _ in range(TRIES):
        figure = measure()
        if good_enough(figure):
            break
    return figure


def hold(measure: Callable[[], float], promised: float, otherwise: float) -> None:
    """Hold a figure to its promise, or to the wider bound where the machine is not at rest."""
    most = promised if AS_PROMISED else otherwise
    figure = best(measure, lambda figure: figure <= most)
    if figure > promised:
        print(f"NOT MET HERE: {figure:.2f}, where {promised:g} is promised on a machine at rest")
    assert figure <= most


def seconds_in_new_process(code: str, home: Path) -> list[float]:
    """Run code that prints seconds, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | at(home),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.splitlines()]


EACH_ALONE = """
import time
from labkit import services
for name in services.SERVICES:
    started = time.perf_counter()
    services.start(name)
    print(time.perf_counter() - started)
    services.stop(name)
services.down()
"""
LAB = """
import time
from labkit import services
from labkit.lab import Lab
from labkit.worker import load
load()
{before}
started = time.perf_counter()
lab = Lab.start()
print(time.perf_counter() - started)
lab.stop()
"""


def timed(code: str) -> list[float]:
    """Seconds that starts take in a new process and a new home, imports not counted."""
    home = make_home()
    try:
        return seconds_in_new_process(code, home)
    finally:
        shutil.rmtree(home)


def test_cold_start(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything starts side by side: at most 1.5 times the slowest server alone."""

    def ratio() -> float:
        slowest, name = max(zip(timed(EACH_ALONE), services.SERVICES, strict=True))
        [whole] = timed(LAB.format(before=""))
        with capsys.disabled():
            print(
                f"\ncold Lab.start() {whole:.2f} s; {name} alone {slowest:.2f} s; "
                f"ratio {whole / slowest:.2f} (at most 1.5)"
            )
        return whole / slowest

    with capsys.disabled():
        hold(ratio, promised=1.5, otherwise=3)


def test_warm_start(capsys: pytest.CaptureFixture[str]) -> None:
    """With the servers running, a lab starts in under half a second."""

    def measure() -> float:
        [seconds] = timed(LAB.format(before="services.start()"))
        with capsys.disabled():
            print(f"\nwarm Lab.start() {seconds:.2f} s (under 0.5)")
        return seconds

    assert best(measure, lambda seconds: seconds < 0.5) < 0.5


def test_from_closed_to_started(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """From the moment a file is closed to its workflow's first event: median under 50 ms."""
    # Three rows are refused at once, so that nothing else keeps the machine busy.
    content = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,15\n" * 3

    def measure() -> float:
        waits = []
        for number in range(20):
            path = paths().raw / f"closed-{number}-{uuid4().hex[:6]}.csv"
            path.write_text(content)
            closed = time.time()
            run = lab.run(workflow_id(PurePath(path.name), path.stat().st_mtime_ns))
            run.wait_for_start()
            waits.append(when(run, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED) - closed)
        median = statistics.median(waits) * 1000
        with capsys.disabled():
            print(f"\nfile closed to workflow started: median {median:.0f} ms (under 50)")
        return median

    assert best(measure, lambda median: median < 50) < 50


def test_orchestration_costs_little(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """One real pipeline, to dev and its approval: at most 10 % more than plain calls."""

    def ratio() -> float:
        pairs = [(orchestrated(lab), plain()) for _ in range(5)]
        ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
        with capsys.disabled():
            print(
                f"\none pipeline {ours:.3f} s; plain calls {bare:.3f} s; "
                f"orchestration adds {100 * (ours / bare - 1):.0f} % (at most 10)"
            )
        return ours / bare

    with capsys.disabled():
        hold(ratio, promised=1.1, otherwise=1.3)


@pytest.mark.long
def test_many_files_at_once(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Thirty files at once: at least 85 % of the speed of plain calls on two threads."""

    def ratio() -> float:
        names = [f"good-{uuid4().hex[:8]}.csv" for _ in range(FILES_AT_ONCE)]
        waiting = awaiting(lab)
        for name in names:
            shutil.copyfile(paths().example, paths().raw / name)
        deadline = time.monotonic() + 180
        while awaiting(lab) < waiting + FILES_AT_ONCE:
            assert time.monotonic() < deadline, "not all pipelines came to their approval"
            time.sleep(0.5)
        stamps = [(PurePath(n), (paths().raw / n).stat().st_mtime_ns) for n in names]
        runs = [lab.run(workflow_id(*stamp)) for stamp in stamps]
        started = min(when(run, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED) for run in runs)
        ours = max(asked(run) for run in runs) - started
        clock = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: plain(), range(FILES_AT_ONCE)))
        bare = time.perf_counter() - clock
        with capsys.disabled():
            print(
                f"\n{FILES_AT_ONCE} files at once {ours:.1f} s; plain calls on two threads "
                f"{bare:.1f} s; {100 * bare / ours:.0f} % of their speed (at least 85)"
            )
        return bare / ours

    assert best(ratio, lambda ratio: ratio >= 0.85) >= 0.85


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_busy_lab_answers(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """While 300 files wait for their turn, each question about a run is answered within 2 s."""
    names = [f"good-busy-{uuid4().hex[:8]}.csv" for _ in range(FILES_THAT_WAIT)]
    for name in names:
        shutil.copyfile(paths().example, paths().raw / name)
    stamps = [(PurePath(n), (paths().raw / n).stat().st_mtime_ns) for n in names]
    runs = [lab.run(workflow_id(*stamp)) for stamp in stamps]
    for run in runs:
        run.wait_for_start(seconds=60)
    seconds: list[float] = []
    rng, until = random.Random(1), time.monotonic() + SECONDS_OF_QUESTIONS
    while time.monotonic() < until:
        run, asked = rng.choice(runs), time.perf_counter()
        assert run.status().workflow_id == run.id
        seconds.append(time.perf_counter() - asked)
    done = sum(bool(run.status().completed_steps) for run in runs)

    async def end(client: Client) -> None:
        await asyncio.gather(*(client.get_workflow_handle(run.id).terminate() for run in runs))

    lab.call(end)
    with capsys.disabled():
        print(
            f"\n{len(seconds)} questions while {FILES_THAT_WAIT} files are worked on ({done} past "
            f"their first step): median {statistics.median(seconds):.2f} s, longest "
            f"{max(seconds):.2f} s (under 2)"
        )
    assert done < FILES_THAT_WAIT, "it was not busy"
    assert max(seconds) < 2


@pytest.mark.long
def test_encryption_costs_little(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """One real pipeline, encrypted and plain by turns: at most 1.1 times the seconds."""
    seconds: dict[bool, list[float]] = {True: [], False: []}

    def ratio() -> float:
        for encrypted in seconds:
            lab.restart(encrypted=encrypted)
            orchestrated(lab)
            seconds[encrypted] += [orchestrated(lab) for _ in range(3)]
        sealed, clear = (statistics.median(seconds[encrypted]) for encrypted in (True, False))
        with capsys.disabled():
            print(
                f"\nencrypted {sealed:.3f} s; plain {clear:.3f} s; "
                f"ratio {sealed / clear:.2f} (at most 1.1)"
            )
        return sealed / clear

    assert best(ratio, lambda ratio: ratio <= 1.1) <= 1.1


def awaiting(lab: Lab) -> int:
    """How many pipelines wait for approval: one question, so that asking costs next to nothing."""
    query = "PipelineStep = 'awaiting_prod_approval' AND ExecutionStatus = 'Running'"

    async def count(client: Client) -> int:
        return (await client.count_workflows(query)).count

    return lab.call(count)


def orchestrated(lab: Lab) -> float:
    """Seconds from the first event of a real pipeline to its wait for approval."""
    run = lab.drop(f"good-{uuid4().hex[:6]}.csv")
    follow_quietly(run, until="awaiting_prod_approval")
    started = when(run, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED)
    return asked(run) - started


def plain() -> float:
    """Seconds that the same work takes as plain function calls, dev deployment included."""
    environment, name = ActivityEnvironment(), f"plain-{uuid4().hex[:8]}"
    started = time.perf_counter()
    source = paths().name(paths().example)
    request = PreprocessInput(name, source, source, sha256(paths().example), False)
    dataset = environment.run(activities.preprocess_data, request)
    model = environment.run(activities.train_model, TrainInput(name, dataset))
    tracking.log_experiment(name, name, Experiment(source, model))
    environment.run(activities.assess_model_quality, model.metrics)
    environment.run(activities.deploy_to_environment, DeployInput("dev", model))
    return time.perf_counter() - started


def follow_quietly(run: Run, until: str | None = None) -> None:
    with redirect_stdout(io.StringIO()):
        run.follow(until)


def asked(run: Run) -> float:
    """When a run asked for its approval, in seconds since 1970."""
    event = next(
        event
        for event in run.history().events
        if event.HasField("timer_started_event_attributes")
        and event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta() > A_MOMENT
    )
    return event.event_time.ToDatetime(UTC).timestamp()


def when(run: Run, kind: "EventType.ValueType") -> float:
    """When the first event of a kind happened, in seconds since 1970."""
    event = next(event for event in run.history().events if event.event_type == kind)
    return event.event_time.ToDatetime(UTC).timestamp()
