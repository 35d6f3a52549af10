"""The model servers for dev and prod: one process, two addresses, two separate registries.

``python -m labkit.services.model_server FOLDER DEV_PORT PROD_PORT``
"""

import asyncio
import hashlib
import io
import json
import sys
from collections import OrderedDict
from pathlib import Path
from threading import RLock
from typing import Annotated, Any, Literal

import joblib
import pandas as pd
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi import Path as UrlPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field
from sklearn.pipeline import Pipeline

from labkit.core.files import write_atomically
from labkit.services.http import Bounded, PatientProtocol

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


class Artifact(BaseModel):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Switch(BaseModel):
    model_id: str


class Models(BaseModel):
    """``current`` is the last of ``deployed``, which is in the order of deployment."""

    environment: str
    current: str | None
    deployed: list[str]


class Registry:
    """The models of one environment. ``deployments.json`` is its memory across restarts.

    A model is *known* (its file was checked, it answers at its own address) and may be
    *deployed*. The last one deployed is the current one, so that taking it out of the list puts
    the one before it back. Every change is one atomic rename of ``deployments.json``.
    """

    def __init__(self, environment: str, folder: Path) -> None:
        self.environment = environment
        self.folder = folder
        self.known: dict[str, str] = {}
        self.deployed: list[str] = []
        self._loaded: OrderedDict[str, Pipeline] = OrderedDict()
        self._lock = RLock()
        self._file = folder / "deployments.json"
        if self._file.exists():
            memory = json.loads(self._file.read_text(encoding="utf-8"))
            self.known, self.deployed = memory["known"], memory["deployed"]

    def describe(self) -> Models:
        with self._lock:
            current = self.deployed[-1] if self.deployed else None
            return Models(
                environment=self.environment, current=current, deployed=list(self.deployed)
            )

    def stage(self, model_id: str, sha256: str) -> None:
        with self._lock:
            self._loaded.pop(model_id, None)
            self._load(model_id, sha256)
            self._remember({**self.known, model_id: sha256}, self.deployed)

    def switch(self, model_id: str) -> None:
        with self._lock:
            if model_id not in self.known:
                raise HTTPException(404, f"{model_id} is not known here. PUT it first.")
            deployed = [*(m for m in self.deployed if m != model_id), model_id]
            self._remember(self.known, deployed)

    def withdraw(self, model_id: str) -> None:
        with self._lock:
            known = {m: digest for m, digest in self.known.items() if m != model_id}
            self._remember(known, [m for m in self.deployed if m != model_id])
            self._loaded.pop(model_id, None)
            (self.folder / f"{model_id}.joblib").unlink(missing_ok=True)

    def find(self, model_id: str) -> tuple[str, Pipeline]:
        with self._lock:
            if model_id == "current":
                if not self.deployed:
                    raise HTTPException(404, f"No model is deployed to {self.environment} yet.")
                model_id = self.deployed[-1]
            if model_id not in self.known:
                raise HTTPException(404, f"{model_id} is not deployed to {self.environment}.")
            return model_id, self._load(model_id, self.known[model_id])

    def _load(self, model_id: str, sha256: str) -> Pipeline:
        """Unpickle exactly the bytes whose sha256 was checked; keep the last few in memory."""
        if model_id not in self._loaded:
            path = self.folder / f"{model_id}.joblib"
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                raise HTTPException(404, f"{path.name} is not in {self.folder}.") from None
            if (found := hashlib.sha256(content).hexdigest()) != sha256:
                raise HTTPException(
                    409,
                    f"{path.name} has sha256 {found[:12]}…, not {sha256[:12]}… as the workflow "
                    f"says. It was changed after training, and is not loaded.",
                )
            self._loaded[model_id] = joblib.load(io.BytesIO(content))
        self._loaded.move_to_end(model_id)
        while len(self._loaded) > LOADED_AT_MOST:
            self._loaded.popitem(last=False)
        return self._loaded[model_id]

    def _remember(self, known: dict[str, str], deployed: list[str]) -> None:
        """On disk first: what a full disk refuses has not happened, here or after a restart."""
        memory = {"known": known, "deployed": deployed}
        write_atomically(self._file, json.dumps(memory, indent=1).encode())
        self.known, self.deployed = known, deployed


def make_app(environment: str, folder: Path) -> FastAPI:
    """The HTTP interface of one environment. Its documentation is at ``/docs``, offline too."""
    registry = Registry(environment, folder)
    app: FastAPI = FastAPIOffline(title=f"Abalone model server: {environment}", version="1")
    app.add_middleware(Bounded, largest=LARGEST)

    @app.exception_handler(RequestValidationError)
    def refuse(request: Request, err: RequestValidationError) -> JSONResponse:
        found = [f"{_where(e)}: {e['msg']}" for e in err.errors()]
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        return JSONResponse({"detail": "; ".join(found[:5]) + more}, 422)

    @app.exception_handler(OSError)
    def cannot_store(request: Request, err: OSError) -> JSONResponse:
        return JSONResponse({"detail": f"The model server cannot store this: {err}"}, 507)

    @app.get("/models")
    def models() -> Models:
        return registry.describe()

    @app.put("/models/current")
    def switch(body: Switch) -> Models:
        """Let a known model answer as the current one, from one request to the next."""
        registry.switch(body.model_id)
        return registry.describe()

    @app.put("/models/{model_id}")
    def stage(model_id: ModelId, body: Artifact) -> Models:
        """Load a model from the deployments folder, if its sha256 is the one given."""
        registry.stage(model_id, body.sha256)
        return registry.describe()

    @app.delete("/models/{model_id}")
    def withdraw(model_id: ModelId) -> Models:
        """Forget a model. If it was current, the one deployed before it is current again."""
        registry.withdraw(model_id)
        return registry.describe()

    @app.post("/models/{model_id}/predict")
    def predict(model_id: ModelId, body: PredictRequest) -> PredictResponse:
        """Predict rings. ``current`` as the id asks the model that was deployed last."""
        found, pipeline = registry.find(model_id)
        rows = pd.DataFrame([instance.model_dump() for instance in body.instances])
        return PredictResponse(model_id=found, predictions=pipeline.predict(rows).tolist())

    return app


def _where(error: dict[str, Any]) -> str:
    """The field that an error is about, as in ``instances.0.sex``."""
    if error["type"] == "json_invalid":
        return f"not JSON, at character {error['loc'][-1]}"
    return ".".join(str(part) for part in error["loc"][1:]) or "body"


async def serve(folder: Path, ports: dict[str, int]) -> None:
    servers = [
        uvicorn.Server(
            uvicorn.Config(
                make_app(environment, folder / environment),
                host="127.0.0.1",
                port=port,
                log_level="warning",
                http=PatientProtocol,
                timeout_graceful_shutdown=2,
            )
        )
        for environment, port in ports.items()
    ]
    await asyncio.gather(*(server.serve() for server in servers))


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), {"dev": int(sys.argv[2]), "prod": int(sys.argv[3])}))
