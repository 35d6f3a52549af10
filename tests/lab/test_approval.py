"""Approvals in a real lab: outages while a human decides, the real CLI, and encryption."""

import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from labkit import Lab
from labkit.ask.history import activities
from labkit.core.record import recorded_address
from labkit.run import Run
from labkit.services.temporal import cli
from labkit.views.approval import ApprovalPanel, _text
from tests.lab.test_lab import mine, module_lab, small

__all__ = ["mine", "module_lab"]

SECONDS = 20


@pytest.fixture
def run(mine: Lab, tmp_path: Path) -> Run:
    """A run that waits for a human."""
    run = mine.drop("good-waiting.csv", small(tmp_path, rows=1000))
    run.follow(until="awaiting_prod_approval")
    return run


@pytest.fixture
def panel(run: Run) -> Iterator[ApprovalPanel]:
    panel = ApprovalPanel(run)
    says(panel, "state", "Waits for a decision")
    yield panel
    panel.close()


def says(panel: ApprovalPanel, line: str, text: str, seconds: float = SECONDS) -> str:
    ends = time.monotonic() + seconds
    while text not in (said := _text(getattr(panel, f"_{line}"))):
        assert time.monotonic() < ends, f"not {text!r} within {seconds} s, but {said!r}"
        time.sleep(0.02)
    return said


def temporal(*words: str) -> None:
    """The real Temporal CLI."""
    address = recorded_address("temporal")
    command = [cli(), "workflow", *words, "--address", str(address)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_approved_in_the_panel(mine: Lab, run: Run, panel: ApprovalPanel) -> None:
    panel._try.click()
    said = says(panel, "tried", "dev answers ")
    assert "prod" not in said
    assert panel.approve("ann", "the errors are small") == "Taken."
    run.follow()
    says(panel, "state", "The run is over: completed: deployed to prod.")
    panel._try.click()
    both = says(panel, "tried", "prod answers ").removesuffix(".").split(": ")[1]
    on_dev, on_prod = (part.split("answers ")[1] for part in both.split(", "))
    assert on_dev == on_prod and on_dev in said
    (row,) = run.decisions()
    decision = run.status().decision
    assert decision and row["decided_at"] == datetime.fromisoformat(decision.at)
    assert (row["outcome"], row["decided_by"]) == ("approved", "ann")
    assert row["reason"] == "the errors are small"
    assert row["model_id"] == run.status().model_id


def test_rejected_from_the_command_line(run: Run, panel: ApprovalPanel) -> None:
    words = ("signal", "--workflow-id", run.id, "--name", "reject_prod_deployment")
    temporal(*words, "--input", '"bob"', "--input", '"too few rows"')
    said = says(panel, "state", "Rejected by bob", seconds=1)
    assert ": too few rows." in said
    run.follow()
    (row,) = run.decisions()
    assert (row["outcome"], row["decided_by"]) == ("rejected", "bob")
    assert row["reason"] == "too few rows"


def test_a_deadline_from_the_settings(mine: Lab, tmp_path: Path) -> None:
    with mine.env(LABKIT_APPROVAL_DAYS=str(0.5 / 86400)):
        run = mine.drop("good-brief.csv", small(tmp_path, rows=1000))
        run.follow()
    assert run.status().failure_reason == "nobody decided within 0.5 seconds"
    (row,) = run.decisions()
    assert (row["outcome"], row["decided_by"]) == ("expired", "")


def test_postgres_is_down_while_somebody_decides(mine: Lab, run: Run, panel: ApprovalPanel) -> None:
    """The decision is taken at once, kept in the history, and recorded once, before prod."""
    with mine.postgres.stopped():
        assert panel.approve("ann") == "Taken."
        run.wait_for_failures(1)
        says(panel, "state", "Its last attempt failed: ")
        assert "prod" not in run.status().deployments
    run.retry_now("record_approval")
    run.follow()
    assert run.status().deployment_status == "deployed_to_prod"
    assert [row["decided_by"] for row in run.decisions()] == ["ann"]
    ids = [record.activity_id for record in activities(run.history())]
    assert ids.index("record_approval") < ids.index("deploy_to_prod")


def test_the_server_is_down_while_the_panel_is_open(
    mine: Lab, run: Run, panel: ApprovalPanel
) -> None:
    mine.temporal.stop()
    try:
        said = says(panel, "state", "The Temporal server does not answer", seconds=3)
        assert said.endswith("Mend: python -m labkit start temporal")
        assert panel._approve.disabled and panel._reject.disabled
        assert panel.approve("ann").startswith("Not sent. No answer; ")
    finally:
        mine.temporal.start()
    Lab.start()  # in case another program took the port meanwhile
    says(panel, "state", "Waits for a decision")
    assert panel.approve("ann") == "Taken."
    run.follow()
    assert [row["decided_by"] for row in run.decisions()] == ["ann"]


def test_the_wait_survives_a_restart_of_everything(mine: Lab, run: Run) -> None:
    asked = run.status().approval_asked
    mine.temporal.stop()
    mine.temporal.start()
    mine.restart()
    assert run.status().approval_asked == asked and run.status().awaiting_approval
    run.reject("bob", "old")
    run.follow()
    assert [row["outcome"] for row in run.decisions()] == ["rejected"]


def test_an_encrypted_lab(mine: Lab, tmp_path: Path) -> None:
    mine.restart(encrypted=True)
    try:
        run = mine.drop("good-sealed.csv", small(tmp_path, rows=1000))
        run.follow(until="awaiting_prod_approval")
        panel = ApprovalPanel(run)
        says(panel, "state", "Waits for a decision")
        assert panel.reject("sealed-bob", "sealed-reason") == "Taken."
        run.follow()
        says(panel, "state", "Rejected by sealed-bob")
        assert run.decisions()[0]["reason"] == "sealed-reason"
        assert not any(mine.search_database("sealed-bob", "sealed-reason").values())
    finally:
        mine.restart(encrypted=False)
