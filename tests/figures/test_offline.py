"""A room without a network: from a folder of wheels to servers that run, in a network namespace.

``make wheels``, then ``make figures ARGS="-k offline"`` as root on Linux.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.core.settings import REPOSITORY

pytestmark = [pytest.mark.figures, pytest.mark.long, pytest.mark.timeout(900)]

WHEELS = REPOSITORY / "wheels"
NOT_COPIED = ("*.egg-info", ".*cache*", ".git", ".venv", ".lab", ".env", "wheels*", "__pycache__")
# Loopback alone: an address elsewhere is unreachable, and no name is known.
SCRIPT = """
set -e
ip link set lo up
if getent hosts docs.temporal.io; then exit 3; fi
make setup
for server in temporal postgres models; do .venv/bin/python -m labkit start $server; done
.venv/bin/python -m labkit status
.venv/bin/python -m labkit down
"""


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A copy of the repository with the wheels in it, in a folder that any user may pass."""
    if os.environ.get("CI"):
        pytest.skip("never in CI: it installs everything once more")
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("A ROOM WITHOUT A NETWORK IS NOT CHECKED: it takes root, Linux and unshare")
    if not list(WHEELS.glob("*.whl")):
        pytest.skip("A ROOM WITHOUT A NETWORK IS NOT CHECKED: run make wheels first")
    with tempfile.TemporaryDirectory(prefix="labkit-test-") as folder:
        Path(folder).chmod(0o755)
        copy = Path(folder) / "lab"
        shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
        for path in (copy / "data").iterdir():
            if path.name != "examples":
                shutil.rmtree(path, ignore_errors=True)
        (copy / "wheels").symlink_to(WHEELS)
        yield copy


def test_it_installs_and_starts_from_wheels_alone(checkout: Path) -> None:
    kept = ("PATH", "LANG", "TERM")
    env = {name: value for name, value in os.environ.items() if name in kept}
    env |= {"HOME": str(checkout), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    python = f"PYTHON={getattr(sys, '_base_executable', sys.executable)}"
    script = SCRIPT.replace("make setup", f"make setup '{python}'")
    command = ["unshare", "--net", "sh", "-c", script]
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True)
    print(done.stdout[-3000:], done.stderr[-3000:])
    assert done.returncode == 0
    assert done.stdout.count("running") == 5, "temporal, its Web UI, PostgreSQL, and two models"
    assert "everything that this lab started is stopped" in done.stdout
