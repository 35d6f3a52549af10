"""The storm. A short one runs with all tests; ``make chaos`` runs a long one, with a fresh seed."""

import asyncio
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import services
from labkit.core.envfile import ensure_env, write_env
from labkit.core.settings import paths
from tests.chaos import checks, clock, plan
from tests.chaos.conftest import SEEDS
from tests.chaos.harness import Chaos
from tests.conftest import assert_no_secret_in_logs, enter, make_home

LONG = "CHAOS_SEEDS" in os.environ
PIPELINES = int(os.environ.get("CHAOS_PIPELINES") or (60 if LONG else 8))
FAULTS = int(os.environ.get("CHAOS_FAULTS") or (100 if LONG else len(plan.FAULTS)))
# As the long one goes: about four seconds a fault, two a pipeline, and minutes for what waits.
SECONDS = 240 + 8 * FAULTS + 6 * PIPELINES
GATE = "accuracy: 0.6\nmae: 4.0\nr2_score: 0.0\napproval_accuracy: 0.6\n"

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(SECONDS + 120)]


@pytest.fixture(scope="module")
def total(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """What all storms of this run have cost together; printed at the end."""
    counts: Counter[str] = Counter()
    yield counts
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\nall storms:", ", ".join(f"{count} {what}" for what, count in counts.items()))


@pytest.fixture
def storm_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = make_home()
    enter(monkeypatch, folder)
    ensure_env()
    write_env(LABKIT_SPEED="3")
    (paths().config / "quality_gate.yml").write_text(GATE)
    yield folder
    assert_no_secret_in_logs(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("seed", SEEDS)
def test_storm(
    seed: int, storm_home: Path, total: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\nchaos seed {seed}: {PIPELINES} pipelines, {FAULTS} faults, {SECONDS} s at most")
    chaos = Chaos(seed, PIPELINES, FAULTS, LONG)
    try:
        in_time = asyncio.run(chaos.run(SECONDS))
        total.update({"faults": sum(chaos.survived.values()), "pipelines": len(chaos.drops)})
        report = examine(chaos, total)
        assert in_time, f"not over after {SECONDS} s"
        leave(chaos, total)
    except BaseException:
        print("\n".join(chaos.story))
        print(f"Replay: make chaos SEEDS={seed} PIPELINES={PIPELINES} FAULTS={FAULTS}")
        raise
    finally:
        chaos.close()
    with capsys.disabled():
        print(report)


def examine(chaos: Chaos, total: Counter[str]) -> str:
    """Everything that must be true while the lab still runs; returns what to print."""
    runs = asyncio.run(checks.look_at_all())
    toll = checks.toll(chaos, runs)
    total.update({what: len(cases) for what, cases in toll.items()})
    # What is lost has failed: whether it may is judged below.
    assert not any(toll[what] for what in ("twice", "stuck", "unreplayable")), toll
    checks.every_drop_has_one_workflow(chaos, runs)
    outcomes = checks.each_ended_for_its_own_reason(chaos, runs)
    lines = [
        f"{sum(chaos.survived.values())} faults survived, seed {chaos.seed}",
        *(f"  {count:>5}  {fault}" for fault, count in sorted(chaos.survived.items())),
        f"{len(runs)} workflows, one for each dropped file, whose histories all replay",
        *(f"  {count:>5}  {how}" for how, count in outcomes.most_common()),
        f"{checks.one_row_each(runs)} rows in experiments, one for each model trained",
        f"dev serves {checks.the_last_one_deployed_serves('dev', runs)}",
        f"prod serves {checks.the_last_one_deployed_serves('prod', runs)}",
        f"{checks.every_artifact_is_whole(runs)} artifacts and checkpoints, all whole",
        f"the workers' disk was filled by: {chaos.disk.name}",
        f"the servers' disk was filled by: {chaos.server_disk.name}",
        f"the clock was set back by: {clock.NAME}",
        f"{time.monotonic() - chaos.started:.0f} s",
    ]
    return "\n".join(lines)


def leave(chaos: Chaos, total: Counter[str]) -> None:
    """Stop every part as a participant would, look at what a next start leaves, and stop."""
    for part in (*chaos.workers, chaos.watcher):
        assert part.end() == 0, part.log.read_text()
    services.start()
    checks.nothing_unfinished_is_left()
    assert services.leave(), "the last one to leave stops the servers"
    left = checks.processes_left()
    total.update({"processes left": len(left)})
    assert left == []
