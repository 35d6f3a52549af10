"""What serves on dev and prod, since when and why, and the way back to the model before."""

from dataclasses import dataclass
from typing import Any

import psycopg2
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError

from labkit.core.settings import LabError, paths, settings
from labkit.pipeline.rollback import RollbackInput, RollbackWorkflow
from labkit.pipeline.words import reason
from labkit.pipeline.work import tracking
from labkit.pipeline.work.registry import Registry

ENVIRONMENTS = ("dev", "prod")


@dataclass(frozen=True)
class Serving:
    """The current model of an environment. ``since`` is ISO 8601 in UTC; figures as in training.

    ``before`` is the model that a rollback would put back. Texts are empty, and figures None,
    where nothing serves, or where PostgreSQL, which knows them, does not answer: ``remark`` says
    which.
    """

    environment: str
    model: str = ""
    since: str = ""
    file: str = ""
    accuracy: float | None = None
    mae: float | None = None
    r2: float | None = None
    approved_by: str = ""
    reason: str = ""
    before: str = ""
    remark: str = ""


def serving() -> list[Serving]:
    """What serves on each environment: from the registry, and from PostgreSQL. Blocks."""
    return [_serving(environment) for environment in ENVIRONMENTS]


async def rollback(client: Client, environment: str, by: str, why: str) -> str:
    """Put the model before back into service, by a workflow that writes to ``approvals`` first.

    Returns:
        The id of the model that serves now.

    Raises:
        LabError: there is none before it, nobody says who or why, or it is under way already.
    """
    if environment not in ENVIRONMENTS:
        raise LabError(f"{environment!r} is no environment. Name dev or prod.")
    if not (by.strip() and why.strip()):
        raise LabError("A rollback says who and why. Name both: by='you', reason='…'.")
    deployed = _registry(environment).deployed()
    if len(deployed) < 2:
        raise LabError(f"{environment} has no model before {deployed[0] if deployed else 'any'}.")
    request = RollbackInput(environment, deployed[-1], by.strip(), why.strip())
    try:
        return await client.execute_workflow(
            RollbackWorkflow.run,
            request,
            id=f"rollback-{environment}-{request.model_id}",
            task_queue=settings().temporal_task_queue,
        )
    except WorkflowAlreadyStartedError:
        raise LabError(f"{request.model_id} is being rolled back already. Wait for it.") from None
    except WorkflowFailureError as err:
        raise LabError(f"{environment} is not rolled back: {reason(err)}") from None
    except RPCError as err:
        raise LabError(f"The Temporal server says: {err.message}. Does it run?") from None


def _serving(environment: str) -> Serving:
    deployed = _registry(environment).deployed()
    if not deployed:
        return Serving(environment, remark="nothing serves yet")
    current = _registry(environment).current()
    model, before = deployed[-1], deployed[-2] if deployed[1:] else ""
    known: dict[str, Any] = {
        "model": model,
        "since": current[1].since if current else "",
        "before": before,
    }
    try:
        rows, decisions = tracking.about_model(model)
    except (psycopg2.Error, ApplicationError):
        return Serving(environment, **known, remark="PostgreSQL, which knows more, does not answer")
    return Serving(environment, **known, **_figures(rows), **_approval(environment, decisions))


def _figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = {"dataset_path": "file", "accuracy": "accuracy", "mae": "mae", "r2_score": "r2"}
    return {ours: row[column] for row in rows[-1:] for column, ours in names.items()}


def _approval(environment: str, decisions: list[dict[str, Any]]) -> dict[str, Any]:
    """Who let the model onto prod; nobody is asked for dev."""
    approved = [row for row in decisions if row["outcome"] == "approved"]
    if environment != "prod" or not approved:
        return {}
    return {"approved_by": approved[-1]["decided_by"], "reason": approved[-1]["reason"]}


def _registry(environment: str) -> Registry:
    return Registry(paths().deployments / environment)
