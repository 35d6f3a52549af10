"""What serves, the way back, and the outcome of a run as everybody can search for it."""

import asyncio
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from labkit import Lab, services
from labkit.ask import serving
from labkit.ask.runs import list_rows
from labkit.core.record import model_server_url
from labkit.core.settings import LabError
from labkit.pipeline.work.tracking import about_model
from labkit.run import Run
from tests.lab.test_lab import mine, module_lab, small

__all__ = ["mine", "module_lab"]


@pytest.fixture
def two(mine: Lab, tmp_path: Path) -> list[Run]:
    """Two runs, one after another on prod."""
    runs = []
    for name in ("good-a.csv", "good-b.csv"):
        run = mine.drop(name, small(tmp_path, rows=1500))
        runs.append(run)
        run.follow(until="awaiting_prod_approval")
        run.approve("Ada", reason=f"like {run.id[-6:]}")
        run.follow()
    return runs


def current(environment: str) -> str:
    answer = httpx.get(f"{model_server_url(environment)}/models", trust_env=False)
    return answer.json()["current"]


def test_prod_is_rolled_back_and_that_is_on_record(
    mine: Lab, two: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (run.status().model_id for run in two)
    row = mine.serving().loc["prod"]
    assert (row["model"], row["before"], row["file"]) == (second, first, "data/raw/good-b.csv")
    assert (row["approved_by"], row["reason"]) == ("Ada", "like good-b")
    assert row["accuracy"] == two[1].status().quality_metrics.accuracy  # type: ignore[union-attr]

    # Through an outage: the row comes before the switch.
    services.stop("postgres")
    rolling = Thread(target=lambda: mine.rollback(by="Bob", reason="too old a sample"))
    rolling.start()
    rolling.join(2)
    assert rolling.is_alive() and current("prod") == second
    assert "does not answer" in mine.serving().loc["prod"]["remark"]
    services.start("postgres")
    rolling.join(60)

    assert current("prod") == first and mine.serving().loc["prod"]["model"] == first
    assert f"prod serves {first} again. Bob rolled it back" in capsys.readouterr().out
    said = about_model(second)[1][-1]
    assert (said["outcome"], said["decided_by"]) == ("rolled back", "Bob")
    assert said["workflow_id"] == f"rollback-prod-{second}"
    assert mine.serving().loc["dev"]["model"] == second  # which nobody rolled back

    listed = [row.id for row in mine.call(lambda it: list_rows(it, query="Outcome='on prod'"))]
    assert {run.id for run in two} <= set(listed)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"environment": "test", "by": "a", "why": "b"}, "no environment"),
        ({"environment": "prod", "by": " ", "why": "b"}, "who and why"),
        ({"environment": "prod", "by": "a", "why": ""}, "who and why"),
        ({"environment": "dev", "by": "a", "why": "b"}, "dev has no model before any"),
    ],
)
def test_what_cannot_be_rolled_back(home: Path, said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LabError, match=complaint):
        asyncio.run(serving.rollback(None, **said))  # type: ignore[arg-type]


def test_nothing_serves_yet(home: Path) -> None:
    assert [row.remark for row in serving.serving()] == ["nothing serves yet"] * 2
