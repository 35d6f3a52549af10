"""Deployment against the real model servers: atomic, checked, and undone when it fails."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import joblib
import pandas as pd
import psutil
import pytest
from temporalio.exceptions import ApplicationError

from labkit import services
from labkit.core.record import model_server_url
from labkit.core.settings import paths
from labkit.pipeline.messages import Model
from labkit.pipeline.work import data
from labkit.pipeline.work.data import misalign_labels, read_table
from labkit.pipeline.work.deployment import deploy, predict, withdraw
from labkit.pipeline.work.training import train
from labkit.services import model_server
from tests.conftest import enter

GOOD = {
    "sex": "M", "length": 0.455, "diameter": 0.365, "height": 0.095, "whole_weight": 0.514,
    "shucked_weight": 0.2245, "viscera_weight": 0.101, "shell_weight": 0.15,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(servers_home: Path) -> tuple[Model, Model]:
    """Two models that predict differently, in the shared lab's folder."""
    table = read_table(paths().example, "good.csv").head(200)
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, servers_home)
        return (
            train(table, "first-00000001", paths().models / "first-00000001"),
            train(misalign_labels(table), "second-00000002", paths().models / "second-00000002"),
        )


@pytest.fixture
def models(servers: Path, trained: tuple[Model, Model]) -> Iterator[tuple[Model, Model]]:
    """Both models, with nothing deployed, whatever other tests have left."""
    for environment in ("dev", "prod"):
        url = f"{model_server_url(environment)}/models"
        for model_id in httpx.get(url).json()["deployed"]:
            withdraw(environment, model_id)
    yield trained
    services.start("models")
    for environment in ("dev", "prod"):
        for model in trained:
            withdraw(environment, model.model_id)


def current(environment: str = "dev") -> str | None:
    return httpx.get(f"{model_server_url(environment)}/models").json()["current"]


def ask(
    body: Any, path: str = "/models/current/predict", method: str = "POST", **options: Any
) -> httpx.Response:
    if body is not None:
        options["content"] = body if isinstance(body, str | bytes) else json.dumps(body)
    headers = {"content-type": "application/json"}
    return httpx.request(method, model_server_url("dev") + path, headers=headers, **options)


def test_a_deployed_model_answers_by_its_id_and_as_current(models: tuple[Model, Model]) -> None:
    first, _ = models
    deployment = deploy("dev", first)
    assert deployment.url == f"{model_server_url('dev')}/models/{first.model_id}/predict"
    answer = httpx.post(deployment.url, json={"instances": first.probe})
    assert answer.json() == {"model_id": first.model_id, "predictions": first.expected}
    assert predict("dev", first.probe) == first.expected
    assert current("prod") is None, "dev and prod are separate"


def test_deploying_twice_is_deploying_once(models: tuple[Model, Model]) -> None:
    first, second = models
    for model in (first, second, second):
        deploy("dev", model)
    described = httpx.get(f"{model_server_url('dev')}/models").json()
    assert described["deployed"] == [first.model_id, second.model_id]
    assert described["current"] == second.model_id


def test_withdrawing_the_current_model_restores_the_one_before(
    models: tuple[Model, Model],
) -> None:
    first, second = models
    deploy("dev", first)
    deploy("dev", second)
    assert predict("dev", first.probe) != first.expected
    assert predict("dev", first.probe, first.model_id) == first.expected, "the old one answers too"

    assert withdraw("dev", second.model_id) == first.model_id
    assert withdraw("dev", second.model_id) == first.model_id, "twice is once"
    assert predict("dev", first.probe) == first.expected
    assert withdraw("dev", first.model_id) is None
    assert ask({"instances": [GOOD]}).status_code == 404


def test_a_tampered_artifact_is_refused(models: tuple[Model, Model], servers: Path) -> None:
    first, second = models
    deploy("dev", first)
    artifact = servers / second.artifact_path
    before = artifact.read_bytes()
    artifact.write_bytes(before + b"x")
    try:
        with pytest.raises(ApplicationError, match="changed after training") as caught:
            deploy("dev", second)
    finally:
        artifact.write_bytes(before)
    assert caught.value.type == "ModelRefused"
    assert predict("dev", first.probe) == first.expected
    assert current() == first.model_id

    deploy("dev", second)
    assert current() == second.model_id, "once mended, it is deployed"


def test_what_is_deployed_is_a_copy_that_training_cannot_reach(
    models: tuple[Model, Model], servers: Path
) -> None:
    first, _ = models
    deploy("dev", first)
    artifact = servers / first.artifact_path
    before = artifact.read_bytes()
    with artifact.open("ab") as file:
        file.write(b"x")
    try:
        services.stop("models")
        services.start("models")
        assert predict("dev", first.probe) == first.expected
    finally:
        artifact.write_bytes(before)


def test_an_artifact_that_is_gone(models: tuple[Model, Model]) -> None:
    gone = replace(models[0], artifact_path="data/models/gone/model.joblib")
    with pytest.raises(ApplicationError, match="Drop the CSV again") as caught:
        deploy("dev", gone)
    assert caught.value.type == "FileNotFound"
    assert caught.value.non_retryable


@pytest.mark.parametrize("wrong", ["value", "missing", "none"])
def test_a_wrong_prediction_withdraws_the_model(models: tuple[Model, Model], wrong: str) -> None:
    first, second = models
    deploy("dev", first)
    expected = {
        "value": [second.expected[0] + 0.5, *second.expected[1:]],
        "missing": second.expected[:-1],
        "none": [],
    }[wrong]
    with pytest.raises(ApplicationError, match="withdrawn") as caught:
        deploy("dev", replace(second, expected=expected))
    assert caught.value.type == "WrongPrediction"
    assert current() == first.model_id
    assert ask({"instances": [GOOD]}, f"/models/{second.model_id}/predict").status_code == 404


def test_a_stopped_server_is_worth_another_try_and_remembers(models: tuple[Model, Model]) -> None:
    first, second = models
    deploy("dev", first)
    deploy("dev", second)
    services.stop("models")
    for call in (lambda: deploy("dev", first), lambda: withdraw("dev", first.model_id)):
        with pytest.raises(ApplicationError, match="python -m labkit start models") as caught:
            call()
        assert caught.value.type == "ModelServerUnavailable"
        assert not caught.value.non_retryable
    services.start("models")
    assert predict("dev", second.probe) == second.expected
    assert withdraw("dev", second.model_id) == first.model_id


def test_more_models_than_stay_in_memory_all_answer(
    models: tuple[Model, Model], servers: Path
) -> None:
    first, _ = models
    copies = [replace(first, model_id=f"copy-{n}") for n in range(model_server.LOADED_AT_MOST + 2)]
    for copy in copies:
        deploy("dev", copy)
    for copy in copies:
        assert predict("dev", first.probe, copy.model_id) == first.expected
    for copy in copies:
        withdraw("dev", copy.model_id)
    assert not list((servers / "data/deployments/dev").glob("copy-*"))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"instances": [{k: v for k, v in GOOD.items() if k != "height"}]}, "0.height: Field req"),
        ({"instances": [GOOD, {**GOOD, "rings": 9}]}, "instances.1.rings: Extra inputs are not"),
        ({"instances": [{**GOOD, "length": float("nan")}]}, "instances.0.length: Input should be"),
        ({"instances": [{**GOOD, "length": float("inf")}]}, "instances.0.length: Input should be"),
        ({"instances": [{**GOOD, "length": -1}]}, "length: Input should be greater than or equal"),
        ({"instances": [{**GOOD, "length": 1001}]}, "length: Input should be less than or equal"),
        ({"instances": [{**GOOD, "length": "long"}]}, "length: Input should be a valid number"),
        ({"instances": [{**GOOD, "sex": "X"}]}, "instances.0.sex: Input should be 'M', 'F' or 'I'"),
        ({"instances": []}, "instances: List should have at least 1 item"),
        ({"instances": [GOOD] * 10_001}, "instances: List should have at most 10000 items"),
        ({"rows": [GOOD]}, "instances: Field required"),
        ([GOOD], "body: Input should be a valid dictionary"),
        ("", "body: Field required"),
        ('{"instances": [', "not JSON, at character 15"),
        ("M,0.455", "not JSON, at character 0"),
        ({"instances": [{}]}, "; and 3 more"),
    ],
    ids=str,
)
def test_bad_input_is_refused_in_words(models: tuple[Model, Model], body: Any, says: str) -> None:
    answer = ask(body)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_the_servers_words_reach_who_asks(models: tuple[Model, Model]) -> None:
    deploy("dev", models[0])
    with pytest.raises(ApplicationError, match=r"instances\.0\.sex") as caught:
        predict("dev", [{**GOOD, "sex": "X"}])
    assert caught.value.type == "ModelRefused"


def test_what_training_accepts_the_server_accepts(models: tuple[Model, Model]) -> None:
    deploy("dev", models[0])
    for size in (0.0, float(data.LARGEST)):
        assert len(predict("dev", [{**GOOD, "height": size}])) == 1


def test_an_unknown_model(models: tuple[Model, Model]) -> None:
    answer = ask({"instances": [GOOD]}, "/models/nothing-here/predict")
    assert answer.status_code == 404
    assert "nothing-here is not deployed to dev" in answer.json()["detail"]
    assert ask({"model_id": "nothing-here"}, "/models/current", "PUT").status_code == 404
    assert ask(None, "/nowhere", "GET").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/models/current/predict"), ("POST", "/models"), ("PATCH", "/models/current")],
)
def test_a_wrong_method(servers: Path, method: str, path: str) -> None:
    assert ask(None, path, method).status_code == 405


@pytest.mark.parametrize(
    "id",
    ["..", "%2e%2e%2fdev", "..%2f..%2f.env", "a.b", "A", "-a", "a%0a", "a%00", "a" * 81, "a/b"],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_paths_are_no_model_ids(servers: Path, id: str, method: str) -> None:
    """As raw bytes, since an HTTP client would tidy the path up first."""
    import http.client

    address = model_server_url("dev").removeprefix("http://")
    connection = http.client.HTTPConnection(address)
    body = json.dumps({"sha256": "0" * 64})
    connection.request(method, f"/models/{id}", body, {"content-type": "application/json"})
    assert connection.getresponse().status in (404, 405, 422)
    connection.close()


@pytest.mark.parametrize("sha256", ["", "0" * 63, "g" * 64, "0" * 64 + "\n"])
def test_a_sha256_that_is_none(models: tuple[Model, Model], sha256: str) -> None:
    assert ask({"sha256": sha256}, "/models/some-model", "PUT").status_code == 422


def test_the_documentation_needs_no_other_host(servers: Path) -> None:
    schema = ask(None, "/openapi.json", "GET").json()
    assert "/models/{model_id}/predict" in schema["paths"]
    page = ask(None, "/docs", "GET")
    assert page.status_code == 200
    sources = re.findall(r"""(?:src|href|url)\s*[=:]\s*['"]([^'"]+)""", page.text)
    assert len(sources) >= 3
    assert [source for source in sources if "//" in source] == []
    for source in sources:
        assert ask(None, source, "GET").status_code == 200


def test_predictions_go_on_while_models_are_switched(models: tuple[Model, Model]) -> None:
    """Every answer is one model's: never an error, never a mixture."""
    from concurrent.futures import ThreadPoolExecutor

    first, second = models
    deploy("dev", first)
    deploy("dev", second)
    wanted = {m.model_id: predict("dev", first.probe, m.model_id) for m in models}
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=model_server_url("dev")) as client:
        switching = pool.submit(lambda: [deploy("dev", m) for m in [first, second] * 5])
        seen = set()
        while not switching.done():
            answer = client.post("/models/current/predict", json={"instances": first.probe})
            found = answer.raise_for_status().json()
            assert found["predictions"] == wanted[found["model_id"]]
            seen.add(found["model_id"])
        switching.result()
    assert seen == set(wanted)


def test_a_deployment_survives_the_loss_of_the_training_folder(
    models: tuple[Model, Model], servers: Path, tmp_path: Path
) -> None:
    first, _ = models
    deploy("dev", first)
    folder = (servers / first.artifact_path).parent
    shutil.move(folder, tmp_path / "away")
    try:
        assert deploy("dev", first).model_id == first.model_id, "it lies in place already"
    finally:
        shutil.move(tmp_path / "away", folder)
    table = pd.DataFrame(first.probe)
    assert joblib.load(servers / first.artifact_path).predict(table).tolist() == first.expected


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
def test_what_a_full_disk_refuses_has_not_happened(models: tuple[Model, Model]) -> None:
    """Neither in the server's memory nor on disk, and the reason is the server's own."""
    first, second = models
    deploy("dev", first)
    server = psutil.Process(services.status()["dev"]["pid"])
    before = httpx.get(f"{model_server_url('dev')}/models").json()
    server.rlimit(psutil.RLIMIT_FSIZE, (1, psutil.RLIM_INFINITY))
    try:
        with pytest.raises(ApplicationError, match=r"store this: .*File too large") as caught:
            deploy("dev", second)
        with pytest.raises(ApplicationError, match="File too large"):
            withdraw("dev", first.model_id)
    finally:
        server.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    assert caught.value.type == "ModelServerUnavailable"
    assert httpx.get(f"{model_server_url('dev')}/models").json() == before
    assert predict("dev", first.probe) == first.expected
    deploy("dev", second)
    assert current() == second.model_id
