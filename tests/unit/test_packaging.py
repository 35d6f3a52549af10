"""The files that set the lab up agree with one another, with the code, and with what runs here."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from labkit.services.temporal import DYNAMIC_CONFIG, SEARCH_ATTRIBUTES

ROOT = Path(__file__).resolve().parents[2]
# Packages of this checkout: the last two lie in notebooks/.
OURS = {"labkit", "tests", "clinic", "lessons"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
]
PIN_LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = {canonicalize_name(name): pin for name, pin in (line.split("==") for line in PIN_LINES)}
COMPOSE_FILE = ROOT / "docker-compose.yml"
TARGETS = {
    "setup",
    "lab",
    "dashboard",
    "test",
    "quick",
    "lint",
    "format",
    "notebooks",
    "figures",
    "pictures",
    "doctor",
}
TARGETS |= {"chaos", "down", "reset", "clean", "wheels", "course"}


def program(name: str) -> str:
    """Where a program is; without it the test is skipped here, and fails in CI."""
    if found := shutil.which(name):
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{name} is missing, and CI must have it: see .ci/run")
    pytest.skip(f"{name} is not installed: what it would check is NOT checked")


def own_files() -> list[Path]:
    """The files of the repository, with or without git: nothing that the lab or a tool made."""
    found = [ROOT / ".ci" / "run", ROOT / ".env.example", *(p for p in ROOT.iterdir())]
    for folder in ("labkit", "notebooks", "tests", "config", "binder", ".devcontainer"):
        found += (ROOT / folder).rglob("*")
    kinds = {
        ".py",
        ".toml",
        ".txt",
        ".yml",
        ".yaml",
        ".md",
        ".ipynb",
        ".sql",
        ".example",
        ".json",
        "",
    }
    return [
        path
        for path in found
        if path.is_file() and path.suffix in kinds and ".ipynb_checkpoints" not in path.parts
    ]


# ---- pyproject.toml, constraints.txt, environment.yml


def test_every_requirement_is_pinned_within_its_range() -> None:
    for requirement in REQUIREMENTS:
        pin = PINS.get(canonicalize_name(requirement.name))
        assert pin, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pin), f"{requirement} excludes the pin {pin}"


def test_constraints_are_sorted_pins_and_nothing_else() -> None:
    for line in PIN_LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", line), line
    assert sorted(PIN_LINES, key=str.lower) == PIN_LINES
    assert len(PINS) == len(PIN_LINES), "a package is pinned twice"
    assert "labkit" not in PINS


def test_environment_lists_the_same_packages_and_versions() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == "temporal-ml-lab"
    assert f"python{PROJECT['requires-python']}" in environment["dependencies"][0]
    lines = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert lines[:2] == ["-c constraints.txt", "-e ."]
    expected = {
        (canonicalize_name(r.name), f"=={PINS[canonicalize_name(r.name)]}", str(r.marker))
        for r in REQUIREMENTS
    }
    listed = [Requirement(line) for line in lines[2:]]
    assert {
        (canonicalize_name(r.name), str(r.specifier), str(r.marker)) for r in listed
    } == expected
    assert len(listed) == len(expected)


def test_everything_installed_for_the_lab_is_pinned() -> None:
    seen: set[tuple[str, str]] = set()
    todo = [(requirement, "") for requirement in REQUIREMENTS]
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                todo += [(Requirement(line), wanted) for line in requires(name) or []]
        assert PINS.get(name) == version(name), f"{name} {version(name)} is installed: make setup"


def test_everything_imported_is_pinned() -> None:
    known = packages_distributions()
    for path in [*(ROOT / "labkit").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            else:
                continue
            for module in (name.split(".")[0] for name in modules):
                if module in sys.stdlib_module_names or module in {
                    "labkit",
                    "tests",
                    "clinic",
                    "lessons",
                }:
                    continue
                owners = {canonicalize_name(owner) for owner in known.get(module, [])}
                assert owners & PINS.keys(), f"{path} imports {module}, which nothing installs"


def test_no_file_names_a_package_index() -> None:
    index = re.compile(
        r"index-url|find-links (?!\"\$\(CURDIR\)/wheels\")|trusted-host|pypi[.]|https?://[^\s\"')]*/simple\b"
    )
    for path in own_files():
        if path != Path(__file__).resolve():
            found = index.search(path.read_text(encoding="utf-8", errors="replace"))
            assert not found, f"{path} names a package index: {found and found[0]}"


# ---- .env.example and docker-compose.yml


def test_env_example_has_every_setting() -> None:
    values = dotenv_values(ROOT / ".env.example")
    assert values == {
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": "5433",
        "POSTGRES_DB": "mlops_tracking",
        "POSTGRES_USER": "mlops",
        "POSTGRES_PASSWORD": "",
        "TEMPORAL_NAMESPACE": "default",
        "TEMPORAL_TASK_QUEUE": "mlops-task-queue",
        "TEMPORAL_ENCRYPTION_KEY": "",
        "LABKIT_CODEC_TOKEN": "",
        "LABKIT_OPAQUE_IDS": "false",
        "LABKIT_ID_KEY": "",
        "LABKIT_POSTGRES": "embedded",
        "LABKIT_ARCHITECTURE": "AbaloneNet-7",
        "LABKIT_SPEED": "1",
        "LABKIT_APPROVAL_DAYS": "30",
        "LABKIT_OTHER_FILES": "coin",
    }


def test_env_example_names_what_the_code_reads() -> None:
    from labkit.core.settings import Settings

    text = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^(?:# )?([A-Z_]+)=", text, re.MULTILINE))
    assert named == {field.upper() for field in Settings.model_fields}
    in_compose = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE_FILE.read_text()))
    assert in_compose <= named


def compose_config(env_file: Path) -> subprocess.CompletedProcess[str]:
    command = [program("docker-compose"), "--file", str(COMPOSE_FILE), "--env-file", str(env_file)]
    ours = ("POSTGRES_", "TEMPORAL_", "COMPOSE_", "PYTHON", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run([*command, "config"], env=env, capture_output=True, text=True)


def published(service: dict) -> set[tuple[str, int, int]]:
    """(address, port here, port in the container), in the words of Compose 1 or 2."""
    ports = set()
    for port in service["ports"]:
        if isinstance(port, str):
            address, here, inside = port.removesuffix("/tcp").split(":")
        else:
            address, here, inside = port["host_ip"], port["published"], port["target"]
        ports.add((address, int(here), int(inside)))
    return ports


@pytest.mark.parametrize("changes", [{}, {"POSTGRES_PORT": "5555", "POSTGRES_USER": "ada"}, None])
def test_compose_uses_the_ports_and_credentials_of_env(
    tmp_path: Path, changes: dict[str, str] | None
) -> None:
    """None leaves everything but the password to the defaults, which are those of .env.example."""
    values = dotenv_values(ROOT / ".env.example") | {"POSTGRES_PASSWORD": "p-w_9"}
    values |= changes or {}
    written = values if changes is not None else {"POSTGRES_PASSWORD": "p-w_9"}
    env_file = tmp_path / "settings.env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in written.items()))

    done = compose_config(env_file)

    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    environment = services["postgres"]["environment"]
    for name in ("POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"):
        assert environment[name] == values[name]
    assert published(services["postgres"]) == {("127.0.0.1", int(values["POSTGRES_PORT"]), 5432)}
    assert published(services["temporal"]) == {
        ("127.0.0.1", 7233, 7233),
        ("127.0.0.1", 8233, 8233),
    }
    schema = str(ROOT / "config" / "schema.sql")
    assert schema in str(services["postgres"]["volumes"])


def test_compose_refuses_an_empty_password_and_says_the_mend() -> None:
    done = compose_config(ROOT / ".env.example")
    assert done.returncode != 0
    assert "set POSTGRES_PASSWORD in .env" in done.stderr


def test_compose_starts_temporal_as_the_lab_does() -> None:
    command = yaml.safe_load(COMPOSE_FILE.read_text())["services"]["temporal"]["command"]
    prefix = "--dynamic-config-value="
    given = dict(c.removeprefix(prefix).split("=") for c in command if c.startswith(prefix))
    assert given == {name: json.dumps(value) for name, value in DYNAMIC_CONFIG.items()}
    for name in SEARCH_ATTRIBUTES:
        assert any(c.startswith(f"--search-attribute={name}=") for c in command)


# ---- Makefile


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = [program("make"), "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_make_alone_lists_targets_that_exist() -> None:
    done = make()
    assert done.returncode == 0, done.stderr
    listed = re.findall(r"^  make ([a-z]+) +\S", done.stdout, re.MULTILINE)
    assert set(listed) == {"help"} | TARGETS
    tried = make("--dry-run", *listed)
    assert tried.returncode == 0, tried.stderr


@pytest.mark.parametrize(
    ("pretend", "says"),
    [
        ("sys.version_info = (3, 9, 2, 'final', 0)", "needs Python 3.11 or newer"),
        ("sys.modules['ensurepip'] = None", "-venv"),
    ],
)
def test_set_up_names_what_python_lacks(tmp_path: Path, pretend: str, says: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    script = f'exec {sys.executable!r} -c "import sys; {pretend}; exec(sys.argv[2])" "$@"'
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)

    done = make("setup", f"PYTHON={python}", folder=tmp_path)

    assert done.returncode != 0
    assert says in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_set_up_names_a_missing_python(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = make("setup", "PYTHON=no-such-python", folder=tmp_path)
    assert done.returncode != 0
    assert "There is no no-such-python here" in done.stdout


INTO_NOWHERE = """#!/bin/sh
case "$*" in
    *"pip install"*) env | grep -E "^PIP_(PREFIX|TARGET|ROOT)="; exit 0;;
    *"import labkit"*) echo "No module named labkit" >&2; exit 1;;
    *) exec {python!r} "$@";;
esac
"""


def test_set_up_is_checked_by_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip.conf, or a variable, may send what is installed to another place."""
    for name in ("PIP_PREFIX", "PIP_TARGET", "PIP_ROOT"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(INTO_NOWHERE.format(python=sys.executable))
    python.chmod(0o755)
    done = make("setup", folder=tmp_path)
    assert done.returncode != 0
    assert "PIP_" not in done.stdout, "no variable reaches pip"
    assert "Installed, but not into .venv. See: .venv/bin/python -m pip config list" in done.stdout
    assert not (tmp_path / ".venv" / ".installed").exists()


SAYS_WHAT_IT_IS_ASKED = """#!/bin/sh
case "$*" in
    *"pip install"*|*"pip download"*) shift 3; echo "asked: $*"; exit {status};;
    *"import labkit"*|*compileall*) exit 0;;
    *) exec {python!r} "$@";;
esac
"""


def folder_with_a_venv(folder: Path, wheels: list[str], status: int = 0) -> Path:
    """What make needs, a ``.venv`` whose pip installs nothing, and a folder of wheels."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(SAYS_WHAT_IT_IS_ASKED.format(python=sys.executable, status=status))
    python.chmod(0o755)
    for wheel in wheels:
        path = folder / wheel
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("wheels", "arguments", "offline"),
    [
        ([], [], False),
        (["wheels/README"], [], False),
        (["wheels.part/a-1-py3-none-any.whl"], [], False),
        (["wheels/a-1-py3-none-any.whl"], [], True),
        (["wheels/a-1-py3-none-any.whl"], ["OFFLINE="], False),
    ],
)
@pytest.mark.parametrize("name", ["plain", "with a space"])
def test_set_up_takes_the_wheels_that_are_there(
    tmp_path: Path, name: str, wheels: list[str], arguments: list[str], offline: bool
) -> None:
    (tmp_path / name).mkdir()
    folder = folder_with_a_venv(tmp_path / name, wheels)
    done = make("setup", *arguments, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (asked,) = re.findall(r"^asked: (.*)$", done.stdout, re.MULTILINE)
    assert (f"--no-index --find-links {folder}/wheels -e .[test]" in asked) is offline
    assert ("--no-index" in asked) is offline


@pytest.mark.parametrize("wheels", [[], ["wheels/a-1-py3-none-any.whl"]])
def test_a_set_up_from_wheels_that_fails_says_so(tmp_path: Path, wheels: list[str]) -> None:
    done = make("setup", folder=folder_with_a_venv(tmp_path, wheels, status=1))
    assert done.returncode != 0
    assert "The set-up is not complete" in done.stdout
    assert ("make setup OFFLINE=" in done.stdout) is bool(wheels)


def test_wheels_are_asked_of_the_network_with_what_builds_labkit(tmp_path: Path) -> None:
    """Old wheels are no source of new ones, and setuptools is among them."""
    folder = folder_with_a_venv(tmp_path, ["wheels/old-1-py3-none-any.whl"])
    (folder / "wheels.part").mkdir()
    done = make("wheels", folder=folder)
    installed, downloaded = re.findall(r"^asked: (.*)$", done.stdout, re.MULTILINE)
    assert "--no-index" not in installed + downloaded
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert downloaded.endswith(" ".join(["-c constraints.txt -d wheels.part .[test]", *build]))
    assert not (folder / "wheels.part").exists() or not (folder / "wheels").exists()


def test_wheels_that_did_not_come_leave_the_old_ones(tmp_path: Path) -> None:
    folder = folder_with_a_venv(tmp_path, ["wheels/old-1-py3-none-any.whl"], status=1)
    assert make("wheels", folder=folder).returncode != 0
    assert [path.name for path in (folder / "wheels").iterdir()] == ["old-1-py3-none-any.whl"]


def test_wheels_are_not_of_the_repository() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/wheels", "/wheels.part"} <= set(ignored)
