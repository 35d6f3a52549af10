"""Deployment against the real model servers: atomic, checked, and undone when it fails."""

import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import joblib
import pandas as pd
import pytest
import sklearn
from temporalio.exceptions import ApplicationError

from labkit import services
from labkit.core.record import model_server_url
from labkit.core.settings import paths
from labkit.pipeline.messages import Model
from labkit.pipeline.names import deployment_order
from labkit.pipeline.work.data import misalign_labels, read_table
from labkit.pipeline.work.deployment import deploy, predict, withdraw
from labkit.pipeline.work.registry import Key, Note, Registry
from labkit.pipeline.work.training import train
from labkit.services import model_server
from labkit.services.models import _put_registries_right
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
    with pytest.raises(ApplicationError, match="python -m labkit start models") as caught:
        deploy("dev", first)
    assert caught.value.type == "ModelServerUnavailable"
    assert not caught.value.non_retryable
    # Withdrawing needs no server, so a failed deployment can end.
    assert withdraw("dev", second.model_id) == first.model_id
    services.start("models")
    assert current() == first.model_id
    assert predict("dev", first.probe) == first.expected


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
    for size in (0.0, 1000.0):
        assert len(predict("dev", [{**GOOD, "height": size}])) == 1


def test_an_unknown_model(models: tuple[Model, Model]) -> None:
    answer = ask({"instances": [GOOD]}, "/models/nothing-here/predict")
    assert answer.status_code == 404
    assert "nothing-here is not deployed to dev" in answer.json()["detail"]
    assert ask(None, "/nowhere", "GET").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/models/current/predict"),
        ("POST", "/models"),
        ("DELETE", "/models/current/predict"),
        ("PUT", "/models"),
    ],
)
def test_a_wrong_method(servers: Path, method: str, path: str) -> None:
    assert ask(None, path, method).status_code == 405


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
@pytest.mark.parametrize("path", ["/models/current", "/models/first-00000001"])
def test_nothing_is_deployed_or_withdrawn_over_http(
    models: tuple[Model, Model], method: str, path: str
) -> None:
    deploy("dev", models[0])
    assert ask({"model_id": "first-00000001"}, path, method).status_code == 404
    assert current() == models[0].model_id


@pytest.mark.parametrize("host", ["evil.example", "dev.localhost.example", "127.0.0.1.example", ""])
def test_other_hosts_are_refused(servers: Path, host: str) -> None:
    """A page whose name points to this machine reads nothing here."""
    url = f"{model_server_url('dev')}/models"
    assert httpx.get(url, headers={"host": host}).status_code == 400
    for ours in ("localhost", "127.0.0.1:8080"):
        assert httpx.get(url, headers={"host": ours}).is_success


@pytest.mark.parametrize(
    "id",
    ["..", "%2e%2e%2fdev", "..%2f..%2f.env", "a.b", "A", "-a", "a%0a", "a%00", "a" * 81, "a/b"],
)
def test_paths_are_no_model_ids(servers: Path, id: str) -> None:
    """As raw bytes, since an HTTP client would tidy the path up first."""
    import http.client

    address = model_server_url("dev").removeprefix("http://")
    connection = http.client.HTTPConnection(address)
    body = json.dumps({"instances": [GOOD]})
    headers = {"content-type": "application/json"}
    connection.request("POST", f"/models/{id}/predict", body, headers)
    assert connection.getresponse().status in (404, 405, 422)
    connection.close()


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


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AbstractContextManager[None]]:
    """No file with these words in its name can be put into place."""

    @contextmanager
    def full(words: str) -> Iterator[None]:
        real = Path.replace

        def replace(self: Path, target: Path) -> Path:
            if words in str(target):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(self, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            yield

    return full


@pytest.mark.parametrize("words", [".joblib", ".staged.json", ".deployed.json"])
def test_what_a_full_disk_refuses_has_not_happened(
    models: tuple[Model, Model],
    full_disk: Callable[[str], AbstractContextManager[None]],
    words: str,
) -> None:
    first, second = models
    deploy("dev", first)
    before = httpx.get(f"{model_server_url('dev')}/models").json()
    with full_disk(words), pytest.raises(OSError, match="No space left"):
        deploy("dev", second)
    with full_disk(".withdrawn.json"), pytest.raises(OSError, match="No space left"):
        withdraw("dev", first.model_id)
    assert httpx.get(f"{model_server_url('dev')}/models").json() == before
    assert predict("dev", first.probe) == first.expected
    deploy("dev", second)
    assert current() == second.model_id


# --- order ---------------------------------------------------------------------------------------

EARLY, LATE = "20261125T100000.000000", "20261125T100000.000001"


@pytest.fixture
def orders() -> tuple[str, str]:
    """An earlier and a later one, which no other test has used."""
    now = deployment_order(datetime.now(UTC))
    return f"{now}1", f"{now}2"


def test_an_older_deployment_does_not_become_current(
    models: tuple[Model, Model], orders: tuple[str, str]
) -> None:
    """A slower run: its model answers at its own address, and it is told which one is current."""
    first, second = models
    early, late = orders
    assert deploy("dev", second, late).current == second.model_id
    assert deploy("dev", first, early).current == second.model_id
    assert current() == second.model_id
    assert predict("dev", first.probe, first.model_id) == first.expected
    listed = httpx.get(f"{model_server_url('dev')}/models").json()["deployed"]
    assert listed == [first.model_id, second.model_id]


def test_the_same_order_twice_is_once(
    models: tuple[Model, Model], orders: tuple[str, str], servers: Path
) -> None:
    first, second = models
    early, late = orders
    deploy("dev", first, early)
    deploy("dev", second, late)
    before = sorted(path.name for path in (servers / "data/deployments/dev").iterdir())
    assert deploy("dev", first, early).current == second.model_id
    assert sorted(path.name for path in (servers / "data/deployments/dev").iterdir()) == before


def test_withdrawing_an_old_model_leaves_a_newer_one(
    models: tuple[Model, Model], orders: tuple[str, str]
) -> None:
    first, second = models
    early, late = orders
    deploy("dev", first, early)
    deploy("dev", second, late)
    assert withdraw("dev", first.model_id, early) == second.model_id
    assert current() == second.model_id
    assert ask({"instances": [GOOD]}, f"/models/{first.model_id}/predict").status_code == 404


@pytest.mark.parametrize("deployed_before", [True, False])
def test_what_was_withdrawn_stays_withdrawn(
    models: tuple[Model, Model], orders: tuple[str, str], deployed_before: bool
) -> None:
    """Also where the deployment had not begun; a later one of the same model is another one."""
    first, second = models
    early, late = orders
    deploy("dev", first, early)
    if deployed_before:
        deploy("dev", second, late)
    withdraw("dev", second.model_id, late)
    with pytest.raises(ApplicationError, match="withdrawn from dev meanwhile") as caught:
        deploy("dev", second, late)
    assert caught.value.type == "ModelWithdrawn" and caught.value.non_retryable
    assert current() == first.model_id
    deploy("dev", second, f"{late}1")
    assert current() == second.model_id


@pytest.mark.parametrize("order", ["../../x", "a/b", "", "a~b", "a b", "\0", "ä"])
def test_an_order_that_is_no_name(home: Path, order: str) -> None:
    registry = Registry(paths().deployments / "dev")
    with pytest.raises(ValueError, match="cannot be the name of a deployment"):
        registry.make_note(Key(order, "model-1"), "staged", Note("0" * 64))
    assert not registry.folder.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"sha512": ""}', b"\xff"])
@pytest.mark.parametrize("state", ["staged", "deployed"])
def test_a_note_that_a_power_cut_left_empty(home: Path, content: bytes, state: str) -> None:
    """The model before it serves, and the next start of the servers says what is lost."""
    registry = Registry(paths().deployments / "dev")
    registry.make_note(Key(EARLY, "first-1"), "deployed", Note("1" * 64))
    registry.make_note(Key(LATE, "second-2"), state, Note("2" * 64))
    (registry.folder / f"{LATE}~second-2.{state}.json").write_bytes(content)
    assert registry.current() == ("first-1", Note("1" * 64))
    assert registry.deployed() == ["first-1"] and registry.find("second-2") is None
    assert _put_registries_right() == [
        "dev has forgotten second-2: its note could not be read. Drop its CSV again."
    ]
    assert _put_registries_right() == []


# --- models that cannot be used ------------------------------------------------------------------


class OfAnotherVersion:
    """Unpickles, and fails at the first prediction, as forests of other versions do."""

    def predict(self, rows: Any) -> Any:
        raise AttributeError("'DecisionTreeRegressor' object has no attribute 'monotonic_cst'")


def pickled(thing: object) -> bytes:
    content = io.BytesIO()
    joblib.dump(thing, content)
    return content.getvalue()


UNUSABLE = {
    "garbage": b"garbage that has the right sha256",
    "empty": b"",
    "half": None,
    "no model": pickled({"not": "a model"}),
    "a class that is gone": b"csklearn.gone\nNoModel\n.",
    "fails at its first prediction": b"ctests.unit.test_deployment\nOfAnotherVersion\n)\x81.",
}


@pytest.mark.parametrize("what", UNUSABLE)
@pytest.mark.parametrize("version", ["0.24.2", "", sklearn.__version__])
def test_a_model_that_no_longer_unpickles(
    models: tuple[Model, Model], servers: Path, what: str, version: str
) -> None:
    first, second = models
    deploy("dev", first)
    whole = (servers / second.artifact_path).read_bytes()
    content = UNUSABLE[what] if UNUSABLE[what] is not None else whole[: len(whole) // 2]
    (servers / "data/models/broken.joblib").write_bytes(content)
    broken = replace(
        second,
        model_id="broken-3",
        artifact_path="data/models/broken.joblib",
        sha256=hashlib.sha256(content).hexdigest(),
        scikit_learn=version,
    )
    with pytest.raises(ApplicationError, match=r"Mend: drop the CSV again\.") as caught:
        deploy("dev", broken)
    assert caught.value.type == "ModelRefused"
    another = "was made with another version of scikit-learn"
    assert (another in caught.value.message) == (version != sklearn.__version__)
    answer = ask({"instances": [GOOD]}, "/models/broken-3/predict")
    assert answer.status_code == 409
    assert "cannot be used: " in answer.json()["detail"]
    assert current() == first.model_id
    withdraw("dev", "broken-3")


@pytest.mark.parametrize("kind", ["a folder", "no permission", "a loop"])
def test_a_model_that_cannot_be_read(models: tuple[Model, Model], servers: Path, kind: str) -> None:
    first, second = models
    deploy("dev", first)
    registry = Registry(servers / "data/deployments/dev")
    key = Key(deployment_order(datetime.now(UTC)), "unread-3")
    registry.make_note(key, "deployed", Note(second.sha256, since=kind))  # in no memory
    file = registry.folder / "unread-3.joblib"
    if kind == "a folder":
        file.mkdir()
    elif kind == "a loop":
        file.symlink_to(file.name)
    else:
        file.symlink_to("/proc/1/mem" if os.geteuid() == 0 else "/proc/1/environ")
    try:
        answer = ask({"instances": [GOOD]})
        assert answer.status_code == 503
        assert "cannot read its models: [Errno" in answer.json()["detail"]
        assert predict("dev", first.probe, first.model_id) == first.expected
    finally:
        file.rmdir() if kind == "a folder" else file.unlink()
    registry.put_artifact("unread-3", (servers / second.artifact_path).read_bytes())
    assert predict("dev", second.probe) == second.expected
    withdraw("dev", "unread-3")
