"""Addresses as a browser reaches them: on this machine, in Codespaces, behind JupyterHub."""

import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from labkit import services
from labkit.ask.client import link_to, ui_url
from labkit.codec_server import WebUIOnly
from labkit.core.links import as_link
from labkit.core.process import until
from labkit.core.record import Server, changing, recorded_address
from labkit.lab import Lab
from labkit.services.model_server import make_app
from labkit.services.temporal import _arguments

HUB = {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}
SPACE = {"CODESPACE_NAME": "fuzzy-otter"}
ELSEWHERE = [
    ({}, "http://127.0.0.1:8233"),
    (HUB, "/user/ada/proxy/absolute/8233"),
    ({"JUPYTERHUB_SERVICE_PREFIX": "/"}, "/proxy/absolute/8233"),
    ({"JUPYTERHUB_SERVICE_PREFIX": "/hub/user/ada"}, "/hub/user/ada/proxy/absolute/8233"),
    ({"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/two/"}, "/user/ada/two/proxy/absolute/8233"),
    (
        HUB | {"JUPYTERHUB_PUBLIC_URL": "https://hub.example/user/ada/"},
        "https://hub.example/user/ada/proxy/absolute/8233",
    ),
    (SPACE, "https://fuzzy-otter-8233.app.github.dev"),
    (
        SPACE | {"GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN": "preview.app.github.dev"},
        "https://fuzzy-otter-8233.preview.app.github.dev",
    ),
    (SPACE | {"JUPYTERHUB_SERVICE_PREFIX": ""}, "https://fuzzy-otter-8233.app.github.dev"),
]


@pytest.fixture
def servers(home: Path) -> None:
    """The Web UI and a model server on record, each at a port of its own."""
    with changing() as state:
        state.services["ui"] = Server("http://127.0.0.1:8233")
        state.services["dev"] = Server("http://127.0.0.1:8080")
        state.services["postgres"] = Server("127.0.0.1:5433")


def set_all(monkeypatch: pytest.MonkeyPatch, names: dict[str, str]) -> None:
    for name, value in names.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("names", "expected"), ELSEWHERE)
def test_the_web_ui(
    servers: None, monkeypatch: pytest.MonkeyPatch, names: dict[str, str], expected: str
) -> None:
    set_all(monkeypatch, names)
    assert link_to("ui") == expected
    assert ui_url("a b") == f"{expected}/namespaces/default/workflows/a%20b"


@pytest.mark.parametrize(("names", "expected"), ELSEWHERE)
def test_a_model_server_alike(
    servers: None, monkeypatch: pytest.MonkeyPatch, names: dict[str, str], expected: str
) -> None:
    set_all(monkeypatch, names)
    expected = expected.replace("8233", "8080")
    assert link_to("dev") == expected
    url = "http://127.0.0.1:8080/models/m-1/predict"
    assert as_link(url) == f"{expected}/models/m-1/predict"


@pytest.mark.parametrize("names", [{}, HUB, SPACE])
@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:5433", "127.0.0.1:7233", "not yet", "", "https://ui.example:8233/x", "http://[::"],
)
def test_what_is_no_address_of_ours_stays(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, str], address: str
) -> None:
    set_all(monkeypatch, names)
    assert as_link(address) == address


@pytest.mark.parametrize("names", [{}, HUB, SPACE])
def test_the_setting_beats_them_all_for_the_web_ui_alone(
    servers: None, monkeypatch: pytest.MonkeyPatch, names: dict[str, str]
) -> None:
    set_all(monkeypatch, names)
    before = link_to("dev")
    monkeypatch.setenv("LABKIT_UI_URL", "https://ui.example/temporal/")
    assert link_to("ui") == "https://ui.example/temporal"
    assert ui_url("x").startswith("https://ui.example/temporal/namespaces/")
    assert link_to("dev") == before


def test_without_a_record_a_run_has_a_link_all_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert link_to("ui") == ""
    assert ui_url("x") == "http://127.0.0.1:8233/namespaces/default/workflows/x"
    set_all(monkeypatch, SPACE)
    assert ui_url("x").startswith("https://fuzzy-otter-8233.app.github.dev/namespaces/")


@pytest.mark.parametrize(
    ("names", "origin", "allowed"),
    [
        ({}, "http://127.0.0.1:8233", True),
        ({}, "http://localhost:8233", True),
        ({}, "http://127.0.0.1:8234", False),
        ({}, "https://evil.example", False),
        (SPACE, "https://fuzzy-otter-8233.app.github.dev", True),
        (SPACE, "https://other-8233.app.github.dev", False),
        ({"LABKIT_UI_URL": "https://ui.example/temporal"}, "https://ui.example", True),
        ({"LABKIT_UI_URL": "https://ui.example/temporal"}, "http://127.0.0.1:8233", False),
        (HUB, "", False),
        (HUB, "null", False),
    ],
)
def test_who_may_read_the_codecs_answers(
    servers: None,
    monkeypatch: pytest.MonkeyPatch,
    names: dict[str, str],
    origin: str,
    allowed: bool,
) -> None:
    set_all(monkeypatch, names)
    assert WebUIOnly(lambda *_: None, allow_origins=()).is_allowed_origin(origin) is allowed


@pytest.mark.parametrize(
    ("names", "path"),
    [
        ({}, ""),
        (SPACE, ""),
        (HUB, "/user/ada/proxy/absolute/8240"),
        ({"LABKIT_UI_URL": "https://ui.example"}, ""),
        ({"LABKIT_UI_URL": "https://ui.example/"}, ""),
        ({"LABKIT_UI_URL": "https://ui.example/temporal/"}, "/temporal"),
        (HUB | {"LABKIT_UI_URL": "https://ui.example/temporal"}, "/temporal"),
    ],
)
def test_the_web_ui_is_told_below_which_path_it_is(
    home: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, str], path: str
) -> None:
    set_all(monkeypatch, names)
    arguments = _arguments(7233, 8240)
    told = [b for a, b in pairwise(arguments) if a == "--ui-public-path"]
    assert told == ([path] if path else [])


def test_the_web_ui_answers_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its pages, its scripts and its own interface below the path."""
    monkeypatch.setenv("LABKIT_UI_URL", "https://ui.example/temporal")
    services.start("temporal")
    at = f"{recorded_address('ui')}/temporal"
    with httpx.Client(trust_env=False) as client:
        page = client.get(f"{at}/namespaces/default/workflows")
        scripts = re.findall(r'href="(/[^"]+\.js)"', page.text)
        assert scripts and all(script.startswith("/temporal/") for script in scripts)
        assert client.get(at.removesuffix("/temporal") + scripts[0]).status_code == 200
        assert until(lambda: client.get(f"{at}/api/v1/namespaces/default").status_code == 200, 20)


def test_the_labs_own_list_shows_links(servers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, SPACE)
    duty = SimpleNamespace(on=True, worker=True)
    said = Lab.__repr__(SimpleNamespace(duty=duty, encrypted=False, notes=[], relieved_by=""))
    assert "Temporal Web UI   https://fuzzy-otter-8233.app.github.dev" in said
    assert "Model server dev  https://fuzzy-otter-8080.app.github.dev" in said
    assert "PostgreSQL        127.0.0.1:5433" in said


@pytest.mark.parametrize("base", ["", "/user/ada/proxy/absolute/8080"])
@pytest.mark.parametrize("page", ["/models", "/docs", "/openapi.json"])
async def test_a_model_server_answers_below_the_hubs_path_and_without(
    tmp_path: Path, base: str, page: str
) -> None:
    """Its documentation names the path at which a browser finds the description."""
    transport = httpx.ASGITransport(make_app(tmp_path, base))
    async with httpx.AsyncClient(transport=transport) as client:
        answer = await client.get(f"https://hub.example{base}{page}")
        assert answer.status_code == (200 if base else 400)
        near = await client.get(f"http://127.0.0.1:8080{page}")
    assert near.status_code == 200
    if page == "/docs":
        assert "'/openapi.json'" in near.text
        assert not base or f"'{base}/openapi.json'" in answer.text
