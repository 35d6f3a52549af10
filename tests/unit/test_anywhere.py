"""The lab in a container of VS Code's, in Codespaces and on Binder: files that nothing here runs.

So they are held against what runs: the Makefile, the ports, and the packages.
"""

import json
import os
import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from labkit.codec_server import PORT as CODEC_PORT
from labkit.core.settings import REPOSITORY, config_file
from labkit.services.temporal import UI_PORT
from labkit.views.page import PORT as PAGE_PORT

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PYTHON = SpecifierSet(PROJECT["requires-python"])
MAKEFILE = (REPOSITORY / "Makefile").read_text()
CONTAINER = json.loads((REPOSITORY / ".devcontainer" / "devcontainer.json").read_text())
BINDER = REPOSITORY / "binder"


def test_the_container_is_of_a_python_that_the_lab_accepts() -> None:
    found = re.fullmatch(r"python:([0-9.]+)-bookworm", CONTAINER["image"])
    assert found, "an image with make in it, and without the name of a registry"
    assert found[1] in PYTHON


def test_the_container_is_set_up_as_any_clone() -> None:
    program, target = CONTAINER["postCreateCommand"].split()
    assert program == "make"
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)
    settings = CONTAINER["customizations"]["vscode"]["settings"]
    folder = "${containerWorkspaceFolder}/"
    python = settings["python.defaultInterpreterPath"].removeprefix(folder)
    assert f"PY = {python}" in MAKEFILE.splitlines()


def test_the_container_forwards_what_a_browser_asks() -> None:
    models = [config_file(f"{name}.yml")["port"] for name in ("dev", "prod")]
    assert set(CONTAINER["forwardPorts"]) == {8888, UI_PORT, PAGE_PORT, *models}
    assert set(CONTAINER["portsAttributes"]) == {str(it) for it in CONTAINER["forwardPorts"]}
    assert CODEC_PORT not in CONTAINER["forwardPorts"], "it hands out what encryption hides"


def test_binder_installs_the_pinned_lab_and_what_shows_servers() -> None:
    lines = [line for line in (BINDER / "requirements.txt").read_text().splitlines() if line]
    lines = [line for line in lines if not line.startswith("#")]
    constraints = lines[0].removeprefix("-c ")
    assert (BINDER / constraints).resolve() == REPOSITORY / "constraints.txt"
    assert lines[1] == "-e ."
    assert [Requirement(line).name for line in lines[2:]] == ["jupyter-server-proxy"]


def test_binder_has_a_python_that_the_lab_accepts() -> None:
    version = (BINDER / "runtime.txt").read_text().strip().removeprefix("python-")
    assert version in PYTHON


def test_binder_checks_what_the_set_up_checks() -> None:
    ours = re.search(r"-I -c 'import ([^']+)'", MAKEFILE)
    theirs = re.search(r"-c 'import ([^']+)'", (BINDER / "postBuild").read_text())
    assert ours and theirs
    assert set(theirs[1].split(", ")) == {"jupyter_server_proxy", *ours[1].split(", ")}


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_binders_scripts_are_ones(name: str) -> None:
    assert os.access(BINDER / name, os.X_OK)
    assert subprocess.run(["bash", "-n", BINDER / name]).returncode == 0


@pytest.mark.parametrize("before", ["", "/etc/theirs"])
def test_binder_starts_what_it_is_told_to_with_the_labs_settings(before: str) -> None:
    env = {"PATH": os.environ["PATH"]} | ({"JUPYTER_CONFIG_PATH": before} if before else {})
    command = [BINDER / "start", "sh", "-c", 'echo "$0 $JUPYTER_CONFIG_PATH"', "told"]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True)
    ours = str(REPOSITORY / "config" / "jupyter")
    assert done.stdout.split() == ["told", os.pathsep.join(filter(None, (ours, before)))]
