"""Each notebook, executed by nbval as a participant would, its committed outputs compared."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.core.settings import REPOSITORY
from tests.conftest import at, make_home
from tests.notebooks.__main__ import NOTEBOOKS

# Three test processes share the machine: alone, each notebook takes half of that or less.
SECONDS = 100
# Eight processes are killed in it, and each death takes seconds to be noticed.
LONGER = {"08-crash-recovery": 150}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_what_comes_out(path: Path) -> None:
    home = make_home()
    sanitize = Path(__file__).with_name("sanitize.cfg")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval"]
    command += ["--nbval-sanitize-with", str(sanitize), "--rootdir", str(REPOSITORY)]
    started = time.monotonic()
    try:
        done = subprocess.run(
            [*command, "--nbval-cell-timeout=120", str(path)],
            env=os.environ | at(home),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert " passed" in done.stdout and "skipped" not in done.stdout
        seconds = time.monotonic() - started
        print(f"{path.name}: {seconds:.0f} s")
        limit = LONGER.get(path.stem, SECONDS)
        assert seconds < limit, f"{path.name} took {seconds:.0f} s; the limit is {limit} s"
    finally:
        subprocess.run(
            [sys.executable, "-m", "labkit", "down"],
            env=os.environ | at(home),
            capture_output=True,
        )
        shutil.rmtree(home)
