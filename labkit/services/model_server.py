"""The model servers for dev and prod: one process, two addresses, a registry each.

They only read: what is deployed is decided by files (see :mod:`labkit.pipeline.work.registry`),
and a change there counts from one request to the next. They answer before scikit-learn and pandas
are loaded, which takes a second.

``python -m labkit.services.model_server FOLDER DEV_PORT PROD_PORT``
"""

import asyncio
import hashlib
import importlib
import io
import sys
import threading
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import uvicorn
from fastapi import Body, FastAPI, HTTPException, Request
from fastapi import Path as UrlPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount

from labkit.core.links import hub_path
from labkit.core.settings import LabError
from labkit.pipeline.work.description import Description, description
from labkit.pipeline.work.registry import Note, Registry
from labkit.services.http import Bounded

LOADED_AT_MOST = 4
SECONDS_TO_START = 2  # what starts beside it has the processor first
LARGEST = 4 * 2**20  # ten thousand instances need half of it
ModelId = Annotated[str, UrlPath(pattern=r"^[a-z0-9][a-z0-9-]{0,79}$")]
PREDICT = "/models/{model_id}/predict"


class PredictResponse(BaseModel):
    """``predictions`` holds one number for each instance, in the unit of what is predicted."""

    model_id: str
    predictions: list[float]


class Dataset(BaseModel):
    """What a model was trained on: the description of its data, and the sha256 of that."""

    model_id: str
    sha256: str
    description: Description


class Loaded(NamedTuple):
    """A model, and the description by which it is asked."""

    pipeline: Any
    described: Description


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

    def predict(self, model_id: str, body: Any) -> PredictResponse:
        """
        Raises:
            HTTPException: 404 there is no such model; 409 it cannot be used.
            RequestValidationError: the body is not what the model's description says.
        """
        import pandas as pd

        try:
            found, note = self._find(model_id)
        except HTTPException:
            _rows(body, _described())  # a body that no model would take is the first thing to mend
            raise
        pipeline, described = self.load(found, note)
        table = pd.DataFrame(_rows(body, described))
        for name, column in described.features.items():
            whole = table[name].fillna("") if column.kind == "category" else table[name]
            table[name] = whole.astype(str if column.kind == "category" else float)
        try:
            return PredictResponse(model_id=found, predictions=pipeline.predict(table).tolist())
        except Exception as err:  # some versions load a model, and fail at its first prediction
            raise _unusable(found, note, err) from None

    def dataset(self, model_id: str) -> Dataset:
        """What a model was trained on. Raises as :meth:`predict`."""
        found, note = self._find(model_id)
        described = self.load(found, note).described
        return Dataset(model_id=found, sha256=described.sha256, description=described)

    def described(self) -> Description | None:
        """How the current model is asked, or the next one when there is none."""
        try:
            return self.dataset("current").description
        except HTTPException:
            return _described()

    def _find(self, model_id: str) -> tuple[str, Note]:
        environment = self.registry.folder.name
        if model_id == "current":
            if current := self.registry.current():
                return current
            raise HTTPException(404, f"No model is deployed to {environment} yet.")
        if note := self.registry.find(model_id):
            return model_id, note
        raise HTTPException(404, f"{model_id} is not deployed to {environment}.")

    def _load(self, model_id: str, note: Note) -> Loaded:
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
            pipeline = joblib.load(io.BytesIO(content))
            if kept := getattr(pipeline, "description_", None):
                return Loaded(pipeline, Description.model_validate_json(kept))
            return Loaded(pipeline, description())  # from before models had one
        except Exception as err:  # what unpickling raises is anybody's guess
            raise _unusable(model_id, note, err) from None


def _described() -> Description | None:
    """The lab's present one; None when it cannot be used."""
    try:
        return description()
    except LabError:
        return None


def _rows(body: Any, described: Description | None) -> list[dict[str, Any]]:
    """The rows of a request, checked. Raises RequestValidationError."""
    if described is None:
        return []
    try:
        request: Any = described.request.model_validate(body, from_attributes=True)
    except ValidationError as err:
        found = [{**e, "loc": ("body", *e["loc"])} for e in err.errors(include_url=False)]
        raise RequestValidationError(found) from None
    return [row.model_dump(by_alias=True) for row in request.instances]


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
    app: FastAPI = FastAPIOffline(title=f"Model server: {folder.name}", version="1")
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

    @app.get("/models/{model_id}/dataset")
    def dataset(model_id: ModelId) -> Dataset:
        """What a model was trained on. Its requests are checked by that, whatever came later."""
        return predictors.dataset(model_id)

    @app.post(PREDICT)
    def predict(model_id: ModelId, body: Annotated[Any, Body()]) -> PredictResponse:
        """``current`` as the id asks the model that was deployed last."""
        return predictors.predict(model_id, body)

    def openapi() -> dict[str, Any]:
        app.openapi_schema = None  # it is what it was when the current model was another one
        schema, described = FastAPI.openapi(app), predictors.described()
        return _with_request(schema, described) if described else schema

    app.openapi = openapi  # type: ignore[method-assign]
    return Starlette(routes=[Mount(path, app), Mount("", app)]) if path else app


def _with_request(schema: dict[str, Any], described: Description) -> dict[str, Any]:
    """The documentation, with the current model's request in it."""
    request = described.request.model_json_schema(ref_template="#/components/schemas/{model}")
    models = {**request.pop("$defs"), "PredictRequest": request}
    schema["components"]["schemas"] |= models
    content = schema["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]
    content["schema"] = {"$ref": "#/components/schemas/PredictRequest"}
    schema["info"]["title"] = f"{described.name.capitalize()} {schema['info']['title'].lower()}"
    return schema


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


def load() -> None:
    """Import what models are made of, so that the first prediction need not."""
    importlib.import_module("labkit.pipeline.work.training")


if __name__ == "__main__":
    loading = threading.Timer(SECONDS_TO_START, load)
    loading.daemon = True  # a server that is stopped waits for no import
    loading.start()
    asyncio.run(serve(Path(sys.argv[1]), {"dev": int(sys.argv[2]), "prod": int(sys.argv[3])}))
