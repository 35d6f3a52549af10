"""Deployment: a file into place, a real prediction, a switch, and the way back."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from temporalio.exceptions import ApplicationError

from labkit.core.record import model_server_url
from labkit.core.settings import paths
from labkit.pipeline.errors import fail_fast
from labkit.pipeline.messages import Deployment, Model
from labkit.pipeline.names import deployment_order
from labkit.pipeline.work.registry import Key, Note, Registry

SECONDS = 10.0


def deploy(environment: str, model: Model, order: str = "") -> Deployment:
    """Put a model into service on ``dev`` or ``prod``, and prove it with a real prediction.

    The server loads the file only if its sha256 is the one in the workflow. The model answers at
    its own address first; only when the predictions there are those that training recorded is it
    deployed, in one step. Doing it twice is the same as doing it once, however late.

    Args:
        environment: ``dev`` or ``prod``.
        model: what was trained.
        order: the workflow's time of the deployment; this moment when it is left out. Of two
            deployments, the one with the higher order serves as current.

    Raises:
        ApplicationError: ``FileNotFound`` or ``ModelWithdrawn`` (not retryable),
            ``ModelServerUnavailable``, ``ModelRefused`` or ``WrongPrediction``.
    """
    registry, now = _registry(environment), datetime.now(UTC)
    key = Key(order or deployment_order(now), model.model_id)
    if registry.is_withdrawn(key):
        raise ApplicationError(
            f"{model.model_id} was withdrawn from {environment} meanwhile, and stays so.",
            type="ModelWithdrawn",
            non_retryable=True,
        )
    note = Note(model.sha256, model.scikit_learn, now.isoformat(), model.description)
    _place(registry, model)
    registry.make_note(key, "staged", note)
    predictions = predict(environment, model.probe, model.model_id)
    if not _close(predictions, model.expected):
        registry.unstage(key)
        raise ApplicationError(
            f"{environment} predicts {predictions} {model.metrics.unit} where training predicted "
            f"{model.expected}. The model was withdrawn.",
            type="WrongPrediction",
        )
    registry.make_note(key, "deployed", note)
    url = f"{model_server_url(environment)}/models/{model.model_id}/predict"
    return Deployment(environment, model.model_id, url, _current(registry) or "")


def withdraw(environment: str, model_id: str, order: str = "") -> str | None:
    """Take a model out of service; the one before it serves again. Needs no server.

    Args:
        environment: ``dev`` or ``prod``.
        model_id: which model.
        order: the deployment to undo. Should it still be under way, in a process that was frozen,
            it has no effect any more. All deployments of the model when it is left out.

    Returns:
        The id of the model that serves now, or None when there was none before it.
    """
    registry = _registry(environment)
    registry.withdraw(model_id, order, datetime.now(UTC).isoformat())
    return _current(registry)


def predict(
    environment: str,
    instances: Sequence[Mapping[str, float | str | None]],
    model_id: str = "current",
) -> list[float]:
    """Ask a model server for predictions, in the unit of the target.

    Args:
        environment: ``dev`` or ``prod``.
        instances: rows with the features by name.
        model_id: a model's id, or ``current``.

    Raises:
        ApplicationError: ``ModelRefused``, with the server's own words, or
            ``ModelServerUnavailable``.
    """
    import httpx  # loaded when it is needed: not by everyone who names the pipeline

    url = f"{model_server_url(environment)}/models/{model_id}/predict"
    rows = {"instances": instances}
    try:  # by plain HTTP: to load certificates would take longer than to ask
        answer = httpx.post(url, json=rows, timeout=SECONDS, trust_env=False, verify=False)
        if answer.is_success:
            return answer.json()["predictions"]
        detail = answer.json()["detail"]
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as err:
        raise ApplicationError(
            f"The {environment} model server at {url} does not answer: {err}. "
            f"Mend: python -m labkit start models",
            type="ModelServerUnavailable",
        ) from None
    kind = "ModelRefused" if answer.is_client_error else "ModelServerUnavailable"
    raise ApplicationError(f"{url}: {detail}", type=kind)


def _registry(environment: str) -> Registry:
    return Registry(paths().deployments / environment)


def _current(registry: Registry) -> str | None:
    found = registry.current()
    return found[0] if found else None


def _place(registry: Registry, model: Model) -> None:
    """Copy the artifact into the registry, where no later training reaches it."""
    if registry.has_artifact(model.model_id, model.sha256):
        return
    source = paths().find(model.artifact_path)
    try:
        registry.put_artifact(model.model_id, source.read_bytes())
    except FileNotFoundError:
        raise fail_fast(
            "FileNotFound", f"The model file {source} is gone. Drop the CSV again to train anew."
        ) from None


def _close(predictions: list[float], expected: list[float]) -> bool:
    return len(predictions) == len(expected) and all(map(math.isclose, predictions, expected))
