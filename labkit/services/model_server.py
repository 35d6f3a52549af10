"""The model servers for dev and prod: one process, two addresses, a registry each.

They only read: what is deployed is decided by files (see :mod:`labkit.pipeline.work.registry`),
and a change there counts from one request to the next. scikit-learn and pandas are loaded by the
first prediction, so that the servers are up a second sooner.

``python -m labkit.services.model_server FOLDER DEV_PORT PROD_PORT``
"""

import asyncio
import hashlib
import io
import sys
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi import Path as UrlPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount

from labkit.core.links import hub_path
from labkit.pipeline.work.registry import Note, Registry
from labkit.services.http import Bounded

LOADED_AT_MOST = 4
LARGEST = 4 * 2**20  # ten thousand instances need half of it
ModelId = Annotated[str, UrlPath(pattern=r"^[a-z0-9][a-z0-9-]{0,79}$")]
Size = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


class Instance(BaseModel):
    """One abalone. Sizes in mm / 200, weights in g / 200, as in the UCI data set."""

    model_config = ConfigDict(extra="forbid")

    sex: Literal["M", "F", "I"]
    length: Size
    diameter: Size
    height: Size
    whole_weight: Size
    shucked_weight: Size
    viscera_weight: Size
    shell_weight: Size


class PredictRequest(BaseModel):
    instances: list[Instance] = Field(min_length=1, max_length=10_000)


class PredictResponse(BaseModel):
    """``predictions`` holds one number of rings for each instance; age in years is 1.5 more."""

    model_id: str
    predictions: list[float]


class Models(BaseModel):
    """``current`` is the last of ``deployed``, which is in the order of deployment."""

    environment: str
    current: str | None
    deployed: list[str]


class Predictors:
    """The models of a registry, ready to predict; the last few stay in memory."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.load = lru_cache(LOADED_AT_MOST)(self._load)

    def predict(self, model_id: str, instances: list[Instance]) -> PredictResponse:
        """Raises: HTTPException: 404 there is no such model; 409 it cannot be used."""
        import pandas as pd

        found, note = self._find(model_id)
        pipeline = self.load(found, note)
        rows = pd.DataFrame([instance.model_dump() for instance in instances])
        try:
            return PredictResponse(model_id=found, predictions=pipeline.predict(rows).tolist())
        except Exception as err:  # some versions load a model, and fail at its first prediction
            raise _unusable(found, note, err) from None

    def _find(self, model_id: str) -> tuple[str, Note]:
        environment = self.registry.folder.name
        if model_id == "current":
            if current := self.registry.current():
                return current
            raise HTTPException(404, f"No model is deployed to {environment} yet.")
        if note := self.registry.find(model_id):
            return model_id, note
        raise HTTPException(404, f"{model_id} is not deployed to {environment}.")

    def _load(self, model_id: str, note: Note) -> Any:
        """Unpickle exactly the bytes whose sha256 was checked."""
        import joblib

        name = f"{model_id}.joblib"
        try:
            content = self.registry.artifact(model_id)
        except FileNotFoundError:
            raise HTTPException(404, f"{name} is not in {self.registry.folder}.") from None
        if (found := hashlib.sha256(content).hexdigest()) != note.sha256:
            raise HTTPException(
                409,
                f"{name} has sha256 {found[:12]}…, not {note.sha256[:12]}… as the workflow "
                f"says. It was changed after training, and is not loaded.",
            )
        try:
            return joblib.load(io.BytesIO(content))
        except Exception as err:  # what unpickling raises is anybody's guess
            raise _unusable(model_id, note, err) from None


def _unusable(model_id: str, note: Note, err: Exception) -> HTTPException:
    here, made = version("scikit-learn"), note.scikit_learn or "unknown"
    another = f"was made with another version of scikit-learn ({made}; this is {here}), and "
    return HTTPException(
        409,
        f"{model_id} {another if made != here else ''}cannot be used: "
        f"{type(err).__name__}: {err}. Mend: drop the CSV again.",
    )


def make_app(folder: Path, path: str = "") -> Starlette:
    """The HTTP interface of one environment. Its documentation is at ``/docs``, offline too.

    Args:
        folder: its registry.
        path: what a proxy puts before each path, and passes on.
    """
    registry = Registry(folder)
    predictors = Predictors(registry)
    app: FastAPI = FastAPIOffline(title=f"Abalone model server: {folder.name}", version="1")
    app.add_middleware(Bounded, largest=LARGEST)
    # A page of another site that has its name point here must not read the answers. A hub asks by
    # its own name, after its own login.
    names = ["*"] if path else ["127.0.0.1", "localhost"]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)

    @app.exception_handler(RequestValidationError)
    def refuse(request: Request, err: RequestValidationError) -> JSONResponse:
        found = [f"{_where(e)}: {e['msg']}" for e in err.errors()]
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        return JSONResponse({"detail": "; ".join(found[:5]) + more}, 422)

    @app.exception_handler(OSError)
    def cannot_read(request: Request, err: OSError) -> JSONResponse:
        return JSONResponse({"detail": f"The model server cannot read its models: {err}"}, 503)

    @app.get("/models")
    def models() -> Models:
        ids = registry.deployed()
        return Models(environment=folder.name, current=ids[-1] if ids else None, deployed=ids)

    @app.post("/models/{model_id}/predict")
    def predict(model_id: ModelId, body: PredictRequest) -> PredictResponse:
        """Predict rings. ``current`` as the id asks the model that was deployed last."""
        return predictors.predict(model_id, body.instances)

    return Starlette(routes=[Mount(path, app), Mount("", app)]) if path else app


def _where(error: dict[str, Any]) -> str:
    """The field that an error is about, as in ``instances.0.sex``."""
    if error["type"] == "json_invalid":
        return f"not JSON, at character {error['loc'][-1]}"
    return ".".join(str(part) for part in error["loc"][1:]) or "body"


async def serve(folder: Path, ports: dict[str, int]) -> None:
    servers = [
        uvicorn.Server(
            uvicorn.Config(
                make_app(folder / environment, hub_path(port)),
                host="127.0.0.1",
                port=port,
                log_level="warning",
                timeout_graceful_shutdown=2,
            )
        )
        for environment, port in ports.items()
    ]
    await asyncio.gather(*(server.serve() for server in servers))


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), {"dev": int(sys.argv[2]), "prod": int(sys.argv[3])}))
