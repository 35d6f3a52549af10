"""``notebooks/plain``: the same kind of pipeline, which needs nothing of the lab."""

import ast
import asyncio
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from labkit.core.settings import REPOSITORY, paths

PLAIN = REPOSITORY / "notebooks" / "plain"
FILES = {"workflow.py", "activities.py", "worker.py", "starter.py", "test_plain.py", "README.md"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the folder, far from the lab, with a CSV in it."""
    folder = tmp_path / "mine"
    shutil.copytree(PLAIN, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths().example, folder / "shells.csv")
    return folder


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    kept["PATH"] = os.pathsep.join((sysconfig.get_path("scripts"), kept["PATH"]))
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | more


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=90
    )


@contextmanager
def running(folder: Path, *command: str, address: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment(TEMPORAL_ADDRESS=address),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def has(handle: WorkflowHandle[Any, Any], kind: str) -> None:
    """Wait for an event. Processes that import scikit-learn take their time on a busy machine."""
    async with asyncio.timeout(90):
        while not any(
            event.HasField(f"{kind}_event_attributes")
            for event in (await handle.fetch_history()).events
        ):
            await asyncio.sleep(0.1)


def test_it_is_small_and_needs_no_labkit() -> None:
    files = [path for path in PLAIN.iterdir() if path.name != "__pycache__"]
    assert {path.name for path in files} == FILES
    code = [path.read_text(encoding="utf-8") for path in files if path.suffix == ".py"]
    assert len([line for text in code for line in text.splitlines() if line.strip()]) < 150
    for text in code:
        for node in ast.walk(ast.parse(text)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [module for module in modules if module.split(".")[0] == "labkit"]


def test_its_readme_names_what_is_there() -> None:
    text = (PLAIN / "README.md").read_text(encoding="utf-8")
    for file in re.findall(r"python (\w+\.py)", text):
        assert (PLAIN / file).exists(), file
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (PLAIN / link).exists(), link


def test_its_own_tests_pass_in_a_copy(project: Path) -> None:
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("if self.approved:", "if not self.approved:"),
        ("timeout=timedelta(days=30)", "timeout=timedelta(days=-1)"),
    ],
)
def test_its_own_tests_can_fail(project: Path, good: str, bad: str) -> None:
    text = (project / "workflow.py").read_text()
    assert good in text
    (project / "workflow.py").write_text(text.replace(good, bad))
    done = run(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", "-k", "goes_live")
    assert "1 failed" in done.stdout, done.stdout + done.stderr


async def test_its_worker_and_starter_run_as_the_readme_says(
    project: Path, temporal_address: str, client: Client
) -> None:
    """The decision comes while no worker runs, and a second worker takes it up."""
    with running(project, "worker.py", address=temporal_address):
        done = run(project, "starter.py", "shells.csv", TEMPORAL_ADDRESS=temporal_address)
        assert done.returncode == 0, done.stderr
        again = run(project, "starter.py", "shells.csv", TEMPORAL_ADDRESS=temporal_address)
        assert "WorkflowAlreadyStartedError" in again.stderr
        handle = client.get_workflow_handle("shells.csv")
        await has(handle, "timer_started")
    with running(project, "starter.py", "shells.csv", "yes", address=temporal_address) as decider:
        await has(handle, "workflow_execution_signaled")
        with running(project, "worker.py", address=temporal_address):
            said, _ = decider.communicate(timeout=90)
    assert said.strip() == str(project / "live")
    assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED
    assert (project / "live").read_bytes() == (project / "shells.model").read_bytes()
