"""The codec server: who may ask, what it answers, and that the real CLI understands it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload, Payloads

from labkit import codec_server
from labkit.core.envfile import write_env
from labkit.core.record import Server, changing
from labkit.core.settings import settings
from labkit.encryption import EncryptionCodec, key_ids, key_source

PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"AbaloneNet-7"')
UI = "http://127.0.0.1:8299"


@pytest.fixture
def http(home: Path) -> Iterator[TestClient]:
    with changing() as state:
        state.services["ui"] = Server(UI)
    with TestClient(codec_server.make_app(), base_url="http://127.0.0.1:8888") as client:
        yield client


def token() -> str:
    return settings().labkit_codec_token.get_secret_value()


def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {token()}"}


def body(*payloads: Payload) -> bytes:
    return json_format.MessageToJson(Payloads(payloads=payloads)).encode()


def read(answer: httpx.Response) -> list[Payload]:
    assert answer.status_code == 200, answer.text
    return list(json_format.Parse(answer.content, Payloads()).payloads)


@pytest.mark.parametrize("way", ["header", "path"])
def test_round_trip(http: TestClient, way: str) -> None:
    base, headers = (f"/{token()}", {}) if way == "path" else ("", bearer())
    (stored,) = read(http.post(f"{base}/encode", content=body(PLAIN), headers=headers))
    assert stored.metadata["encryption-key-id"].decode() == key_ids()[0]
    assert b"AbaloneNet" not in stored.SerializeToString()
    decoded = read(http.post(f"{base}/decode", content=body(stored, PLAIN), headers=headers))
    assert decoded == [PLAIN, PLAIN]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/decode", {}, 401),
        ("/decode", {"Authorization": "Bearer "}, 401),
        ("/decode", {"Authorization": "Bearer wrong"}, 403),
        ("/decode", {"Authorization": "Bearer ü".encode("latin-1")}, 403),
        ("/decode", {"Authorization": "Basic wrong"}, 401),
        ("/wrong/decode", {}, 403),
        ("/%FF/decode", {}, 403),
        ("/wrong/encode", {}, 403),
    ],
)
def test_nobody_without_the_token(
    http: TestClient, path: str, headers: dict[str, str | bytes], status: int
) -> None:
    answer = http.post(path, content=body(PLAIN), headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert "AbaloneNet" not in answer.text and token() not in answer.text


def test_an_empty_token_opens_nothing(http: TestClient) -> None:
    write_env(LABKIT_CODEC_TOKEN="")
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}):
        assert http.post("/decode", content=body(PLAIN), headers=headers).status_code in (401, 403)


PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,x-namespace,authorization",
}


@pytest.mark.parametrize("origin", [UI, UI.replace("127.0.0.1", "localhost")])
def test_pages_of_the_web_ui_may_read(http: TestClient, origin: str) -> None:
    answer = http.options("/decode", headers=PREFLIGHT | {"Origin": origin})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert {"content-type", "x-namespace", "authorization"} <= {
        name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")
    }
    answer = http.post("/decode", content=body(PLAIN), headers=bearer() | {"Origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9", "null", f"{UI}.evil.example"]
)
def test_other_pages_may_not(http: TestClient, origin: str) -> None:
    answer = http.options("/decode", headers=PREFLIGHT | {"Origin": origin})
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    answer = http.post("/decode", content=body(PLAIN), headers=bearer() | {"Origin": origin})
    assert "access-control-allow-origin" not in answer.headers


def test_another_host_name_is_refused(http: TestClient) -> None:
    """A page that makes its own name point at this machine gets nothing."""
    headers = bearer() | {"Host": "evil.example"}
    assert http.post("/decode", content=body(PLAIN), headers=headers).status_code == 400


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"[1]", b'{"payloads": 1}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_body_that_is_no_payloads(http: TestClient, content: bytes) -> None:
    answer = http.post("/decode", content=content, headers=bearer())
    assert answer.status_code == 400
    assert "not Payloads in JSON" in answer.text


def test_a_huge_body(http: TestClient) -> None:
    answer = http.post("/decode", content=b" " * (codec_server.LARGEST + 1), headers=bearer())
    assert answer.status_code == 413


def test_other_addresses_and_methods(http: TestClient) -> None:
    assert http.post("/elsewhere", headers=bearer()).status_code == 404
    assert http.get("/decode", headers=bearer()).status_code == 405
    for path in ("/docs", "/openapi.json", "/"):
        assert http.get(path).status_code in (404, 405)


async def test_a_key_that_is_gone_is_named(http: TestClient) -> None:
    gone = Fernet.generate_key().decode()
    (stored,) = await EncryptionCodec([gone], encrypt=True).encode([PLAIN])
    answer = http.post("/decode", content=body(stored), headers=bearer())
    assert answer.status_code == 422
    wrote = stored.metadata["encryption-key-id"].decode()
    assert f"encrypted with key {wrote}" in answer.json()["message"]
    write_env(TEMPORAL_ENCRYPTION_KEY=",".join([*key_source(), gone]))
    assert read(http.post("/decode", content=body(stored), headers=bearer())) == [PLAIN]


def test_without_a_key_nothing_is_encoded(http: TestClient) -> None:
    write_env(TEMPORAL_ENCRYPTION_KEY="")
    answer = http.post("/encode", content=body(PLAIN), headers=bearer())
    assert answer.status_code == 422 and "AbaloneNet" not in answer.text


def test_the_command_prints_no_token_and_ends_cleanly(home: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "labkit", "codec-server"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    printed = ""
    for line in process.stdout:
        printed += line
        if line == "ready\n":
            break
    address = printed.split()[0]
    assert address.startswith("http://127.0.0.1:")
    assert read(httpx.post(f"{address}/{token()}/decode", content=body(PLAIN))) == [PLAIN]
    httpx.post(f"{address}/{token()}/decode", content=b"nonsense")
    httpx.get(f"{address}/{token()}/nowhere")
    process.send_signal(signal.SIGTERM)
    printed += process.stdout.read()
    assert process.wait(20) == 0
    assert token() not in printed and key_source()[0] not in printed


def test_a_taken_port_and_down(home: Path) -> None:
    with codec_server.running() as first, codec_server.running() as second:
        assert first != second
    command = [sys.executable, "-m", "labkit"]
    process = subprocess.Popen([*command, "codec-server"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    while process.stdout.readline() != "ready\n":
        pass
    down = subprocess.run([*command, "down"], capture_output=True, text=True, env=os.environ)
    assert f"ended codec-server (pid {process.pid})" in down.stdout
    assert process.wait(20) == 0
