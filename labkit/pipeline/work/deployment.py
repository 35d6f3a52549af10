"""Deployment: a file into place, a switch, a real prediction, and the way back."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from temporalio.exceptions import ApplicationError

from labkit.core.files import sha256, write_atomically
from labkit.core.record import model_server_url
from labkit.core.settings import paths
from labkit.pipeline.errors import fail_fast
from labkit.pipeline.messages import Deployment, Model

SECONDS = 10.0


def deploy(environment: str, model: Model) -> Deployment:
    """Put a model into service on ``dev`` or ``prod``, and prove it with a real prediction.

    The server loads the file only if its sha256 is the one in the workflow. The model answers at
    its own address first; only when the predictions there are those that training recorded does
    the server switch, in one step. Doing it twice is the same as doing it once.

    Raises:
        ApplicationError: ``FileNotFound`` (not retryable), ``ModelServerUnavailable``,
            ``ModelRefused`` or ``WrongPrediction``.
    """
    _place(environment, model)
    with _server(environment) as server:
        _ask(server, "PUT", f"/models/{model.model_id}", {"sha256": model.sha256})
        predictions = _predictions(server, model.model_id, model.probe)
        if not _close(predictions, model.expected):
            _ask(server, "DELETE", f"/models/{model.model_id}")
            raise ApplicationError(
                f"{environment} predicts {predictions} rings where training predicted "
                f"{model.expected}. The model was withdrawn.",
                type="WrongPrediction",
            )
        _ask(server, "PUT", "/models/current", {"model_id": model.model_id})
        url = f"{str(server.base_url).rstrip('/')}/models/{model.model_id}/predict"
    return Deployment(environment, model.model_id, url)


def withdraw(environment: str, model_id: str) -> str | None:
    """Take a model out of service; the one before it serves again.

    Returns:
        The id of the model that serves now, or None when there was none before it.
    """
    with _server(environment) as server:
        return _ask(server, "DELETE", f"/models/{model_id}")["current"]


def predict(
    environment: str, instances: list[dict[str, float | str]], model_id: str = "current"
) -> list[float]:
    """Ask a model server for predictions, in rings.

    Args:
        environment: ``dev`` or ``prod``.
        instances: rows with the eight features by name.
        model_id: a model's id, or ``current``.

    Raises:
        ApplicationError: ``ModelRefused``, with the server's own words, or
            ``ModelServerUnavailable``.
    """
    with _server(environment) as server:
        return _predictions(server, model_id, instances)


def _place(environment: str, model: Model) -> None:
    """Copy the artifact into the environment's folder, where no later training reaches it."""
    target = paths().deployments / environment / f"{model.model_id}.joblib"
    if target.exists() and sha256(target) == model.sha256:
        return
    source = paths().find(model.artifact_path)
    try:
        write_atomically(target, source.read_bytes())
    except FileNotFoundError:
        raise fail_fast(
            "FileNotFound", f"The model file {source} is gone. Drop the CSV again to train anew."
        ) from None


def _close(predictions: list[float], expected: list[float]) -> bool:
    return len(predictions) == len(expected) and all(map(math.isclose, predictions, expected))


@contextmanager
def _server(environment: str) -> Iterator[httpx.Client]:
    url = model_server_url(environment)
    try:
        with httpx.Client(base_url=url, timeout=SECONDS, trust_env=False) as server:
            yield server
    except (httpx.HTTPError, json.JSONDecodeError) as err:
        raise ApplicationError(
            f"The {environment} model server at {url} does not answer: {err}. "
            f"Mend: python -m labkit start models",
            type="ModelServerUnavailable",
        ) from None


def _predictions(
    server: httpx.Client, model_id: str, instances: list[dict[str, float | str]]
) -> list[float]:
    answer = _ask(server, "POST", f"/models/{model_id}/predict", {"instances": instances})
    return answer["predictions"]


def _ask(server: httpx.Client, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """One request; a refusal becomes an error with the server's own words."""
    answer = server.request(method, path, json=body)
    if answer.is_error:
        detail = answer.json().get("detail", answer.text)
        kind = "ModelRefused" if answer.is_client_error else "ModelServerUnavailable"
        raise ApplicationError(f"{answer.request.url}: {detail}", type=kind)
    return answer.json()
