"""Wrong settings fail a run at the first attempt; mended, it goes on from there."""

import pytest

from labkit import Lab
from labkit.core.journal import attempts_of
from labkit.core.settings import LabError, read_env
from labkit.faults import fault
from labkit.run import Run
from tests.failures.conftest import Drop

WRONG = {
    "InvalidPassword": {"POSTGRES_PASSWORD": "wr0ng-and-secret"},
    "InvalidCatalogName": {"POSTGRES_DB": "wrong_db"},
}


def outcomes(run: Run, activity_id: str) -> list[str]:
    return [a.outcome for a in attempts_of(run.id) if a.activity_id == activity_id]


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_settings(
    kind: str, mine: Lab, drop: Drop, capsys: pytest.CaptureFixture[str]
) -> None:
    with mine.env(**WRONG[kind]):
        run = drop(f"good-{kind}.csv")
        run.follow()
    failed = run.status()
    assert failed.failure_reason.startswith(f"{kind}: ")
    (name,) = WRONG[kind]
    assert f"{name} in a lab.env block, then run again" in failed.failure_reason
    run.prove("log_experiment", attempts=1, outcome="failed")
    assert outcomes(run, "log_experiment") == ["failed"]
    assert run.experiments() == []

    run.again()
    run.follow(until="awaiting_prod_approval")
    assert outcomes(run, "train_model") == ["completed"]
    assert outcomes(run, "log_experiment") == ["failed", "completed"]
    assert run.status().model_id == failed.model_id
    (row,) = run.experiments()
    assert row["model_id"] == failed.model_id
    said = f"{run.history()} {run.status()} {capsys.readouterr()}"
    assert "wr0ng-and-secret" not in said
    assert read_env()["POSTGRES_PASSWORD"] not in said


def test_failed_twice_and_run_again_twice(mine: Lab, drop: Drop) -> None:
    with mine.env(POSTGRES_PASSWORD="wrong"):
        run = drop("good-slow-to-learn.csv")
        run.follow()
        run.again()
        run.follow()
    run.again()
    run.follow(until="awaiting_prod_approval")
    assert outcomes(run, "log_experiment") == ["failed", "failed", "completed"]
    assert outcomes(run, "train_model") == ["completed"]


def test_again_from_the_first_activity(drop: Drop) -> None:
    with fault("data_processing"):
        run = drop("good-from-the-start.csv")
        run.follow()
    run.again()
    run.follow(until="awaiting_prod_approval")
    assert outcomes(run, "preprocess_data") == [*["failed"] * 3, "completed"]
    assert len(run.experiments()) == 1


@pytest.mark.parametrize("signal", [True, False])
async def test_again_from_the_last_activity_keeps_the_approval(
    signal: bool, mine: Lab, drop: Drop
) -> None:
    run = drop("good-to-the-end.csv")
    run.follow(until="awaiting_prod_approval")
    with fault("deployment"):
        if signal:
            handle = (await mine.client()).get_workflow_handle(run.id)
            await handle.signal("approve_prod_deployment", "Ada")
        else:
            run.approve(by="Ada")
        run.follow()
    assert run.status().deployment_status == "deployed_to_dev"
    run.again()
    run.follow()
    assert run.status().deployment_status == "deployed_to_prod"
    assert run.status().decision.by == "Ada"
    assert outcomes(run, "deploy_to_dev") == ["completed"]
    assert outcomes(run, "deploy_to_prod") == ["failed", "failed", "completed"]


def test_again_of_a_run_that_did_not_fail(mine: Lab, drop: Drop) -> None:
    run = drop("bad-but-no-failure.csv")
    run.follow()
    with pytest.raises(LabError, match=r"No activity of .* has failed, so there is nothing to run"):
        run.again()
    with pytest.raises(LabError, match="mlops-nobody"):
        mine.run("mlops-nobody").again()
