"""Real activities on a real server that skips time: python -m pytest"""

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer
from worker import worker
from workflow import Pipeline

TIME = ["--dynamic-config-value=frontend.WorkflowTimeSkippingEnabled=true",
        '--dynamic-config-value=history.timerProcessorMaxTimeShift="10ms"']  # fmt: skip


def play(folder: Path, *decisions: bool, rows: int = 300) -> str:
    csv = folder / "shells.csv"
    csv.write_text("".join(f"M,1,{n % 7},1,1,1,1,1,{n % 7}\n" for n in range(rows)))
    signal = {"start_signal": "decide", "start_signal_args": decisions} if decisions else {}

    async def run() -> str:
        server = await WorkflowEnvironment.start_time_skipping_v2(
            dev_server_existing_path=shutil.which("temporal"), dev_server_extra_args=TIME
        )
        async with server, worker(server.client):
            start = server.client.start_workflow
            run = await start(Pipeline.run, str(csv), id="it", task_queue="plain", **signal)
            result = await run.result()
            await Replayer(workflows=[Pipeline]).replay_workflow(await run.fetch_history())
            return result

    return asyncio.run(run())


def test_an_approved_model_goes_live(tmp_path: Path) -> None:
    assert play(tmp_path, True) == str(tmp_path / "live")
    with sqlite3.connect(tmp_path / "runs.db") as database:
        assert database.execute("SELECT id, score > 0.9 FROM runs").fetchall() == [("it", 1)]


def test_no_decision_in_thirty_days_is_an_end(tmp_path: Path) -> None:
    assert (play(tmp_path), play(tmp_path, False)) == ("nobody decided", "rejected")
    assert not (tmp_path / "live").exists()


def test_a_file_that_is_too_short_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(WorkflowFailureError) as failed:
        play(tmp_path, rows=99)
    assert failed.value.cause.cause.type == "TooShort"
