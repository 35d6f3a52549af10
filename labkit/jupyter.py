"""The commands that open Jupyter: the lessons in JupyterLab, and the dashboard as a page."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from labkit import services
from labkit.core.account import no_home
from labkit.core.process import STOP_SIGNALS
from labkit.core.settings import REPOSITORY, LabError, paths

FIRST_NOTEBOOK = "notebooks/00-start-here.ipynb"


def lab(arguments: Sequence[str]) -> int:
    """Open JupyterLab at notebook 00, and stay with it; returns its exit status."""
    _need_a_home()
    home = _home_of(FIRST_NOTEBOOK)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={home}"]
    command += [f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}", "--ServerApp.ip=127.0.0.1"]
    if sys.platform != "win32" and os.geteuid() == 0:
        command.append("--allow-root")
    services.join("jupyter")
    heard = {name: signal.getsignal(name) for name in STOP_SIGNALS}
    try:
        # The terminal sends Ctrl-C and its own end to JupyterLab, too. It asks before it ends on
        # the first; the second would kill it at once, and leave its kernels behind.
        for name in STOP_SIGNALS[2:]:
            signal.signal(name, signal.SIG_IGN)
        jupyter = subprocess.Popen(
            [*command, *arguments], env=os.environ | _ours_first("JUPYTER_CONFIG_PATH")
        )
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for name in STOP_SIGNALS[1:]:
            if heard[name] != signal.SIG_IGN:
                signal.signal(name, lambda *_: jupyter.terminate())
        return jupyter.wait()
    finally:
        services.leave()


def dashboard(arguments: Sequence[str]) -> None:
    """Serve the dashboard as a page of its own."""
    from labkit.views import page

    _need_a_home()
    os.environ |= _ours_first("JUPYTER_PATH")
    services.join("dashboard")
    try:
        page.serve(_home_of(page.NOTEBOOK) / page.NOTEBOOK, arguments)
    finally:
        services.leave()


def _need_a_home() -> None:
    if problem := no_home():
        raise LabError(problem)


def _home_of(notebook: str) -> Path:
    """Where it is: a copy below the lab's folder, else the checkout's."""
    return paths().root if (paths().root / notebook).exists() else REPOSITORY


def _ours_first(variable: str) -> dict[str, str]:
    """A search path of Jupyter's with ``config/jupyter`` before the rest.

    There JupyterLab reads that it need not ask for news, and Voilà finds a template without a CDN:
    the lab works offline.
    """
    ours, theirs = str(REPOSITORY / "config" / "jupyter"), os.environ.get(variable)
    return {variable: os.pathsep.join(filter(None, (ours, theirs)))}
