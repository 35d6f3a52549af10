"""nbval, as the tests call it: a notebook is executed, and its committed outputs are compared."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.core.settings import REPOSITORY
from tests.conftest import at, make_home

# Three test processes share the machine: alone, each notebook takes half of that or less.
SECONDS = 100
# Eight processes are killed in it, and each death takes seconds to be noticed.
LONGER = {"08-crash-recovery": 150}
MOST_SECONDS = 280
# nbval alone, and no grammar of addresses that jsonschema would build for a second: it costs a
# notebook two seconds otherwise.
NBVAL = """
import sys
sys.modules["rfc3987_syntax"] = None
import pytest
sys.exit(pytest.main())
"""
SHOWN = 6000


def compare(path: Path, home: Path) -> None:
    """Execute a notebook in a home, and compare.

    Raises:
        AssertionError: an output differs, with the first differences; or it took too long.
    """
    sanitize = Path(__file__).with_name("sanitize.cfg")
    command = [sys.executable, "-c", NBVAL, "-q", "-c", os.devnull, "--rootdir", str(REPOSITORY)]
    command += ["--disable-plugin-autoload", "-p", "nbval.plugin", "-p", "no:cacheprovider"]
    command += ["--nbval", "--nbval-sanitize-with", str(sanitize)]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--nbval-cell-timeout=120", str(path)],
        env=os.environ | at(home),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stdout[:SHOWN] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
    print(f"{path.name}: {seconds:.0f} s")
    limit = LONGER.get(path.stem, SECONDS)
    assert seconds < limit, f"{path.name} took {seconds:.0f} s; the limit is {limit} s"


@contextmanager
def home_of_a_course() -> Iterator[Path]:
    """A home whose lab ends with the block, whatever the notebooks have left running."""
    home = make_home()
    try:
        yield home
    finally:
        down = [sys.executable, "-m", "labkit", "down"]
        subprocess.run(down, env=os.environ | at(home), capture_output=True)
        shutil.rmtree(home)
