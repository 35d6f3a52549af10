"""The remote codec: clear text for the Temporal Web UI and CLI, which have no key.

It hands out what encryption hides, so it listens on this machine only, and asks for a token. The
CLI sends it in a header (``--codec-auth "Bearer …"``). The Web UI sends none, unless its own login
is set up, so there the token may stand in the address: ``http://127.0.0.1:8899/TOKEN``.
"""

import contextlib
import hmac
import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from google.protobuf import json_format
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from temporalio.api.common.v1 import Payloads

from labkit.ask.client import USUAL_UI, address, link_to
from labkit.core.ports import free_port
from labkit.core.process import environment_of_ours, until
from labkit.core.settings import LabError, settings, temporal_profile
from labkit.encryption import EncryptionCodec, key_source
from labkit.services.http import Bounded
from labkit.services.temporal import cli

PORT = 8899
LARGEST = 32 * 2**20
START_SECONDS = 10


class WebUIOnly(CORSMiddleware):
    """Lets the pages of the Web UI read the answers, and no others."""

    def is_allowed_origin(self, origin: str) -> bool:
        ui = urlsplit(link_to("ui") or USUAL_UI)
        own = f"{ui.scheme}://{ui.netloc}"
        return origin in (own, own.replace("127.0.0.1", "localhost"))


def make_app() -> FastAPI:
    """The two endpoints of Temporal's codec protocol. There is no documentation page to find."""
    app = FastAPI(openapi_url=None)
    # The middleware added last sees a request first.
    app.add_middleware(Bounded, largest=LARGEST)
    app.add_middleware(
        WebUIOnly,
        allow_methods=["POST"],
        allow_headers=["content-type", "x-namespace", "authorization"],
        allow_credentials=True,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])

    @app.exception_handler(LabError)
    def refuse(request: Request, err: LabError) -> JSONResponse:
        return JSONResponse({"message": str(err)}, 422)

    @app.post("/{what}")
    @app.post("/{token}/{what}")
    async def translate(request: Request, what: str, token: str = "") -> dict[str, Any]:
        _authorise(request, token)
        if what not in ("encode", "decode"):
            raise HTTPException(404, "There are /encode and /decode.")
        codec = EncryptionCodec(key_source(), encrypt=what == "encode")
        payloads = (await _payloads(request)).payloads
        done = await (codec.encode(payloads) if what == "encode" else codec.decode(payloads))
        return json_format.MessageToDict(Payloads(payloads=done))

    return app


def _authorise(request: Request, token: str) -> None:
    """Compare in constant time, so that a wrong token does not say how wrong it is."""
    kind, _, sent = request.headers.get("authorization", "").partition(" ")
    sent = sent if kind.lower() == "bearer" else ""
    wanted = settings().labkit_codec_token.get_secret_value()
    if not (sent or token):
        raise HTTPException(401, "A token is needed.", {"WWW-Authenticate": "Bearer"})
    if not wanted or not hmac.compare_digest((sent or token).encode(), wanted.encode()):
        raise HTTPException(403, "That is not the token.")


async def _payloads(request: Request) -> Payloads:
    try:
        return json_format.Parse(await request.body(), Payloads())
    except (json_format.ParseError, UnicodeDecodeError, RecursionError):
        raise HTTPException(400, "The body is not Payloads in JSON.") from None


@contextlib.contextmanager
def running(port: int = PORT) -> Iterator[str]:
    """Run the codec server in a thread while the block lasts, at this port or the next free one.

    Yields:
        Its address, without the token.
    """
    port = free_port(port)
    # Addresses hold the token, so there is no log of requests.
    config = uvicorn.Config(
        make_app(),
        "127.0.0.1",
        port,
        log_config=None,
        access_log=False,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="codec-server", daemon=True)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive(), START_SECONDS)
        if not server.started:
            raise LabError(f"The codec server did not start at port {port}. Try once more.")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def show(id: str, codec: str | None = None) -> str:
    """What the real Temporal CLI prints of a run: ``temporal workflow show --detailed``.

    Args:
        id: the workflow id.
        codec: the codec server's address; without one, the CLI shows what is stored.

    Raises:
        LabError: the CLI fails; with its words.
    """
    command = [cli(), "workflow", "show", "--workflow-id", id, "--address", address()]
    command += ["--namespace", settings().temporal_namespace, "--detailed"]
    environment = dict(os.environ)
    if "target_host" not in temporal_profile():
        command.append("--disable-config-file")
        environment = environment_of_ours()
    if codec:  # as variables: anybody may list the arguments of processes
        token = settings().labkit_codec_token.get_secret_value()
        environment["TEMPORAL_CODEC_ENDPOINT"] = codec
        environment["TEMPORAL_CODEC_AUTH"] = f"Bearer {token}"
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    if done.returncode:
        raise LabError(f"temporal workflow show: {done.stderr.strip()[-500:]}")
    return done.stdout
