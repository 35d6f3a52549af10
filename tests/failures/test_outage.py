"""PostgreSQL is really stopped, and started again."""

import subprocess
import sys
import time

import pytest

from labkit import Lab, services
from labkit.ask.history import real_gaps
from labkit.core.journal import attempts_of
from labkit.core.settings import LabError
from labkit.faults import fault
from labkit.pipeline.work.tracking import database
from tests.failures.conftest import Drop, Outage


def answers() -> bool:
    with database() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone() == (1,)


@pytest.mark.parametrize(("mode", "number"), [("fast", 20), ("immediate", 3)])
def test_runs_wait_through_an_outage(mode: str, number: int, drop: Drop, outage: Outage) -> None:
    runs = [drop("good-in-flight.csv")]
    with outage(mode):
        runs += [drop(f"good-{mode}-{n}.csv", rows=300) for n in range(1, number)]
        for run in runs[1:]:
            run.wait_for_failures(2)
    for run in runs:
        run.follow(until="quality_assessment")
        assert len(run.experiments()) == 1
        trained = [a for a in attempts_of(run.id) if a.activity_id == "train_model"]
        assert [a.outcome for a in trained] == ["completed"]


def test_the_schedule_up_to_its_cap_without_the_wait(mine: Lab, drop: Drop, outage: Outage) -> None:
    promised = [2, 4, 8, 16, 32, 60, 60]
    with outage(), mine.env(LABKIT_SPEED="1"):
        run = drop("good-schedule.csv")
        run.wait_for_failures(1)
        started = time.monotonic()
        assert run.next_gaps(7) == promised
        assert time.monotonic() - started < 10
        happened = real_gaps(attempts_of(run.id), "log_experiment")
        assert happened == pytest.approx(promised, abs=0.5)
        tail = run._bars()[-8:]
        assert {bar.row for bar in tail} == {"log_experiment"}
        assert tail[-1].start > sum(promised) - 1
    run.retry_now("log_experiment")
    run.follow(until="awaiting_prod_approval")
    (row,) = run.experiments()
    assert row["workflow_id"] == run.id
    drawn = run._bars()
    assert [bar.row for bar in drawn[-4:]] == [
        *("log_experiment", "assess_model_quality", "deploy_to_dev", "approval"),
    ]  # in the order in which they happened, though the clock was moved
    assert all(bar.end >= bar.start for bar in drawn)
    assert drawn[-1].end - drawn[-1].start < 30


def test_a_wait_cut_short(
    mine: Lab, drop: Drop, outage: Outage, capsys: pytest.CaptureFixture[str]
) -> None:
    with outage(), mine.env(LABKIT_SPEED="0.1"):
        run = drop("good-impatient.csv")
        run.wait_for_failures(1)  # the next attempt is twenty seconds away
    started = time.monotonic()
    run.retry_now("log_experiment")
    run.follow(until="quality_assessment")
    assert time.monotonic() - started < 10
    capsys.readouterr()
    run.prove("log_experiment")  # the attempt counts as the first one
    assert capsys.readouterr().out == (
        "Proved: log_experiment was asked for once, and completed; the event history has "
        "1 attempt, the ledger 2, because a reset began the count again.\n"
    )
    assert [a.number for a in attempts_of(run.id) if a.activity_id == "log_experiment"] == [1, 1]


def test_what_does_not_wait_is_said(mine: Lab, drop: Drop, capsys: pytest.CaptureFixture) -> None:
    run = drop("good-calm.csv")
    run.follow(until="awaiting_prod_approval")
    with pytest.raises(LabError, match="does not wait for a further attempt"):
        run.next_gaps(1)
    with pytest.raises(LabError, match="is not at log_experiment"):
        run.retry_now("log_experiment")
    with pytest.raises(LabError, match=r"not failed 1 times after 0.2 s. It waits for a human"):
        run.wait_for_failures(1, seconds=0.2)
    with fault("data_processing"):
        run = drop("good-over.csv")
        run.follow()
    started = time.monotonic()
    with pytest.raises(LabError, match=r"It failed: .*on purpose"):
        run.wait_for_failures(4)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, LabError, None])
def test_stopped_for_a_block(mine: Lab, error: type | None) -> None:
    def block() -> None:
        with mine.postgres.stopped():
            assert not services.status()["postgres"]["running"]
            if error:
                raise error

    if error:
        with pytest.raises(error):
            block()
    else:
        block()
    assert answers()


def test_interrupted_while_it_stops(mine: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = services.stop

    def stop_and_interrupt(name: str) -> None:
        stop(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(services, "stop", stop_and_interrupt)
    with pytest.raises(KeyboardInterrupt), mine.postgres.stopped():
        raise AssertionError
    assert answers()


def test_from_the_shell(mine: Lab) -> None:
    def labkit(*words: str) -> str:
        command = [sys.executable, "-m", "labkit", *words]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout

    assert labkit("stop", "postgres") == "postgres is stopped\n"
    assert not services.status()["postgres"]["running"]
    assert "postgres runs at 127.0.0.1:" in labkit("start", "postgres")
    assert answers()
