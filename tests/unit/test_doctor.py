"""What the doctor says of the surroundings: Jupyter's environment, a proxy, a hub."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from labkit import doctor
from labkit.core.process import until

PROXIES = [
    f"{kind}_proxy" for kind in ("http", "https", "all", "ftp", "HTTP", "HTTPS", "ALL", "FTP")
]
WAITS = "import sys; sys.stdin.read()"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "no_proxy", "NO_PROXY", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Another environment with a Python and a Jupyter, though both do nothing but wait."""
    folder = tmp_path / "other"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    for name in ("jupyter-lab", "jupyterhub-singleuser", "voila"):
        (folder / "bin" / name).write_text(WAITS)
        (folder / "bin" / name).chmod(0o755)
    return folder


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.communicate()


def start(
    started: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    *command: str,
    executable: Path | None = None,
    **env: str,
) -> None:
    """Have this process be a kernel of that one."""
    process = subprocess.Popen(
        command, executable=executable, stdin=subprocess.PIPE, env=env or None
    )
    started.append(process)
    assert until(psutil.Process(process.pid).cmdline, 10), "it is empty for a moment after exec"
    monkeypatch.setenv("JPY_PARENT_PID", str(process.pid))


@pytest.mark.parametrize("script", ["jupyter-lab", "jupyterhub-singleuser"])
def test_jupyter_of_another_environment_without_widgets_is_wrong(
    environment: Path,
    parent: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
) -> None:
    start(parent, monkeypatch, sys.executable, str(environment / "bin" / script))
    (found,) = doctor.jupyter()
    assert not found.ok
    assert f"the kernel runs in {sys.prefix}, and Jupyter in {environment}, which" in found.text


def test_one_that_shows_widgets_is_only_said(
    environment: Path, parent: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (environment / "share/jupyter" / doctor.WIDGETS).mkdir(parents=True)
    start(parent, monkeypatch, sys.executable, str(environment / "bin" / "jupyter-lab"))
    (found,) = doctor.jupyter()
    assert found.ok
    assert found.text.endswith(f"and Jupyter in {environment}")


def test_jupyter_by_a_module_is_found_by_its_python(
    environment: Path, parent: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m jupyterlab`, where only the PATH of that shell says which python it is."""
    command = ("python", "-c", f"{WAITS}  # jupyterlab")
    path = str(environment / "bin")
    start(parent, monkeypatch, *command, executable=Path(sys.executable), PATH=path)
    (found,) = doctor.jupyter()
    assert f"Jupyter in {environment}" in found.text


@pytest.mark.parametrize("program", ["jupyterlab", "pytest"])
def test_the_same_environment_or_no_jupyter_is_no_news(
    parent: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    start(parent, monkeypatch, sys.executable, "-c", f"{WAITS}  # {program}")
    assert not list(doctor.jupyter())


@pytest.mark.parametrize("pid", ["", "none", "0", "999999999"])
def test_a_parent_that_cannot_be_asked_is_no_news(
    monkeypatch: pytest.MonkeyPatch, pid: str
) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", pid)
    assert not list(doctor.jupyter())


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("exempt", "ok"),
    [
        ("", False),
        ("example.com", False),
        ("localhost", False),
        ("127.0.0.1", True),
        ("example.com, 127.0.0.1,localhost", True),
        ("*", True),
    ],
)
def test_a_proxy_that_would_be_asked_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, name: str, exempt: str, ok: bool
) -> None:
    monkeypatch.setenv(name, "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", exempt)
    found = list(doctor.proxies())
    assert (not found) is ok
    assert all(name.lower() in it.text and "NO_PROXY" in it.mend for it in found)


def test_no_proxy_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list(doctor.proxies())
    monkeypatch.setenv("no_proxy", "example.com")
    assert not list(doctor.proxies())
    monkeypatch.setenv("https_proxy", "")
    assert not list(doctor.proxies())


@pytest.mark.parametrize("installed", [True, False])
def test_a_hub_needs_what_shows_its_ports(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: object() if installed else None)
    assert not list(doctor.proxies())
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    assert len(list(doctor.proxies())) == (0 if installed else 1)
