"""``python -m labkit doctor``: what is wrong on this machine, and the mend for each."""

import asyncio
import importlib.metadata
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass

import psutil
from jupyter_core.paths import SYSTEM_JUPYTER_PATH, jupyter_data_dir
from packaging.requirements import Requirement

from labkit import services
from labkit.ask.client import connect
from labkit.ask.runs import LISTED_AT_MOST, OPEN, STUCK, Row, list_rows
from labkit.ask.silence import Queue, describe_queue
from labkit.core.account import no_home, no_name
from labkit.core.envfile import lacking_secrets
from labkit.core.files import find_abandoned, sweep
from labkit.core.links import hub_path
from labkit.core.passed_over import read_passed_over
from labkit.core.ports import accepts
from labkit.core.process import find_orphans
from labkit.core.record import State, changing
from labkit.core.settings import config_file, model_server_port, paths, settings, source_of
from labkit.pipeline.work import tracking
from labkit.pipeline.work.description import description

ENOUGH_DISK = 2 * 2**30
WIDGETS = "labextensions/@jupyter-widgets/jupyterlab-manager"


@dataclass
class Finding:
    """One thing that was looked at. ``fix`` is there when the doctor can mend it."""

    text: str
    ok: bool = True
    mend: str = ""
    fix: Callable[[], object] | None = None


def examine(fix: bool = False, quiet: bool = False) -> bool:
    """Print each finding, in words; mend what can be mended when asked to.

    Args:
        fix: mend what the doctor can mend.
        quiet: print only what is not well.

    Returns:
        True when all is well, or was mended.
    """
    left = 0
    for check in CHECKS:
        try:
            findings = list(check())
        except Exception as err:
            findings = [Finding(f"{check.__name__}: {err}", ok=False)]
        left += sum(not report(finding, fix, quiet) for finding in findings)
    print(f"{left} things are wrong." if left else "All is well.")
    return left == 0


def report(finding: Finding, fix: bool, quiet: bool) -> bool:
    """Print one finding, and mend it when that is asked for and possible.

    Returns:
        True when nothing is left to mend.
    """
    word = "ok" if finding.ok else "wrong"
    if fix and not finding.ok and finding.fix:
        try:
            finding.fix()
            word = "mended"
        except Exception as err:
            finding.mend += f" (doctor --fix could not: {err})"
    if not (quiet and finding.ok):
        print(f"{word:<8}{finding.text}")
    if word == "wrong" and finding.mend:
        print(f"{'':<8}mend: {finding.mend}")
    return word != "wrong"


def python() -> Iterator[Finding]:
    version = sys.version.split()[0]
    new_enough = sys.version_info >= (3, 11)
    yield Finding(
        f"Python {version} at {sys.executable}", new_enough, "install Python 3.11 or newer"
    )


def packages() -> Iterator[Finding]:
    """What the lab requires is installed, in versions that it accepts."""
    wrong = []
    try:
        requirements = map(Requirement, importlib.metadata.requires("labkit") or [])
    except importlib.metadata.PackageNotFoundError:
        yield Finding("labkit is not installed in this Python", False, "make setup")
        return
    for requirement in (r for r in requirements if not r.marker or r.marker.evaluate()):
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    yield Finding("; ".join(wrong) or "packages", not wrong, "make setup")


def jupyter() -> Iterator[Finding]:
    """In a notebook: its kernel and the server that shows it may be of two environments."""
    home = _home_of_jupyter()
    if home is None or home == Path(sys.executable).parent.parent.resolve():
        return
    places = (home / "share/jupyter", Path(jupyter_data_dir()), *map(Path, SYSTEM_JUPYTER_PATH))
    shows = any((place / WIDGETS).exists() for place in places)
    text = f"the kernel runs in {sys.prefix}, and Jupyter in {home}"
    text += "" if shows else ", which has no widgets: buttons and panels stay blank"
    yield Finding(text, shows, "make lab; or install jupyterlab-widgets there, and reload the page")


def _home_of_jupyter() -> Path | None:
    """The environment of the Jupyter server that started this kernel, where that can be told."""
    try:
        parent = psutil.Process(int(os.environ.get("JPY_PARENT_PID", "")))
        words, path = parent.cmdline()[:3], parent.environ().get("PATH")
    except (ValueError, psutil.Error):
        return None
    if not any("jupyter" in word for word in words[1:]):
        return None
    # Of `python …/bin/jupyter-lab` and `…/bin/python -m jupyterlab`, one says where it is.
    for word in (*words[1:2], *words[:1]):
        found = Path(shutil.which(word, path=path) or "")
        if found.parent.name in ("bin", "Scripts"):
            return found.parent.parent.resolve()
    return None


def proxies() -> Iterator[Finding]:
    """What asks the web through a proxy must not ask it for what runs on this machine."""
    names = ", ".join(f"{name}_proxy" for name in sorted(getproxies_environment()) if name != "no")
    if names and not proxy_bypass("127.0.0.1"):
        text = f"{names} would also be asked for 127.0.0.1, by curl and by code of yours"
        yield Finding(text, False, "export NO_PROXY=127.0.0.1,localhost; and no_proxy alike")
    if hub_path(0) and not find_spec("jupyter_server_proxy"):
        text = "JupyterHub cannot show the Web UI, nor the model servers"
        yield Finding(text, False, "pip install jupyter-server-proxy, and restart Jupyter")


def account() -> Iterator[Finding]:
    embedded = settings().labkit_postgres == "embedded"
    problems = [problem for problem in (no_name() if embedded else "", no_home()) if problem]
    for problem in problems:
        what, _, mend = problem.partition(" Mend: ")
        yield Finding(what, False, mend)
    if not problems:
        yield Finding("this user has what Jupyter and PostgreSQL ask for")


def disk() -> Iterator[Finding]:
    free = shutil.disk_usage(paths().root).free
    text = f"{free / 2**30:.0f} GiB free below {paths().root}"
    yield Finding(text, free > ENOUGH_DISK, "free some space: python -m labkit reset")


def env_file() -> Iterator[Finding]:
    path = paths().env
    if not path.exists():
        yield Finding(".env will be made by the first start")
        return
    yield closed(path, 0o077, partial(path.chmod, 0o600))
    if paths().lab.exists():
        yield closed(paths().lab, 0o066, paths().make)
    settings()
    yield Finding("settings can be read")
    if lacking := lacking_secrets():
        yield Finding(f".env lacks {', '.join(lacking)}", False, "doctor --fix", services.prepare)


def closed(path: Path, open_bits: int, close: Callable[[], object]) -> Finding:
    """Whether other users of the machine have none of these rights."""
    mode = stat.S_IMODE(path.stat().st_mode)
    private = sys.platform == "win32" or mode & open_bits == 0
    how = "private" if private else f"open to other users (mode {mode:o})"
    return Finding(f"{path.name} is {how}", private, f"chmod go-rwx {path}", close)


def configuration() -> Iterator[Finding]:
    for name in ("dev.yml", "prod.yml", "quality_gate.yml"):
        config_file(name)
    description()
    yield Finding("config/ can be read")


def leftovers() -> Iterator[Finding]:
    """What a crash left of the lab's own files; the next start clears it, too."""
    if State.broken():
        yield Finding("the record of servers is broken", False, "doctor --fix", services.prepare)
    if unfinished := find_abandoned():
        text = f"{len(unfinished)} unfinished files, such as {paths().name(unfinished[0])}"
        yield Finding(text, False, "doctor --fix", sweep)


def processes() -> Iterator[Finding]:
    """Servers that run though no file records them, and records of what has died."""
    state = State.read()
    recorded = [server.process for server in state.services.values() if server.process]
    markers = [service.markers() for service in services.SERVICES.values()]
    found = [process for marker in markers if marker for process in find_orphans(*marker)]
    orphans = [process for process in found if process not in recorded]
    for orphan in orphans:
        yield Finding(
            f"process {orphan.pid} was left behind by a crash", False, "doctor --fix", orphan.end
        )
    dead = [user.process.pid for user in state.users if not user.process.alive()]
    if dead:
        yield Finding(
            f"on record, but dead: {', '.join(map(str, dead))}", False, "doctor --fix", forget_dead
        )
    running = any(server.running() for server in state.services.values())
    if running and not any(user.process.alive() for user in state.users):
        yield Finding("servers run, and nobody uses them", False, "make down", services.down)
    if not orphans and not dead:
        yield Finding("no process was left behind")


def forget_dead() -> None:
    with changing() as state:
        state.users = [user for user in state.users if user.process.alive()]
        state.labs = [lab for lab in state.labs if lab.process.alive()]


def ports() -> Iterator[Finding]:
    """A taken port is no fault: the lab takes the next one, and the doctor says which."""
    recorded = {server.address for server in State.read().services.values()}
    wanted = {"Temporal": 7233, "Web UI": 8233, "PostgreSQL": settings().postgres_port}
    wanted |= {name: model_server_port(name) for name in ("dev", "prod")}
    for name, port in wanted.items():
        ours = any(address.endswith(f":{port}") for address in recorded)
        if accepts(f"127.0.0.1:{port}") and not ours:
            yield Finding(f"port {port} ({name}) is taken: the next free one is used")
    yield Finding("ports")


def servers() -> Iterator[Finding]:
    for name, server in services.status().items():
        killed = server["pid"] and not server["running"]
        word = "runs" if server["running"] else "was killed" if killed else "is stopped"
        yield Finding(
            f"{name} at {server['address']} {word}",
            server["running"],
            "python -m labkit up",
            partial(start_again, name),
        )
    if services.status().get("postgres", {}).get("running"):
        try:
            tracking.rehearse()
            yield Finding("PostgreSQL lets the pipeline in, and takes what a run writes")
        except Exception as err:
            text = f"PostgreSQL does not let the pipeline in: {getattr(err, 'message', err)}"
            wrong = getattr(err, "type", "") == "InvalidPassword"
            ours = settings().labkit_postgres == "embedded"
            if wrong and ours and source_of("POSTGRES_PASSWORD") == ".env":
                mend = "doctor --fix writes the password there that the data were made with"
                yield Finding(text, False, mend, services.postgres.restore_password)
            else:
                yield Finding(text, False)


def start_again(name: str) -> None:
    """Start a server for those who use it; forget it, when nobody does."""
    if any(user.process.alive() for user in State.read().users):
        services.start(*(s.name for s in services.SERVICES.values() if name in s.records))
    else:
        services.down()


def passed_over() -> Iterator[Finding]:
    """Files in data/raw that start nothing."""
    for name, why in read_passed_over().items():
        yield Finding(f"{name} is passed over: it {why}", ok=False)


def runs() -> Iterator[Finding]:
    """Workflows whose own code fails, that are paused, or that no worker would take."""
    if not services.status().get("temporal", {}).get("running"):
        return
    with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has a running event loop
        rows, queue = thread.submit(asyncio.run, _runs()).result()
    for row in rows:
        if row.held == STUCK:
            mend = f"see .lab/logs, or what it says: python -m labkit status {row.id}"
            yield Finding(f"the code of {row.id} fails", False, mend)
        elif row.held:
            mend = f"see who holds it: python -m labkit status {row.id}"
            yield Finding(f"{row.id} is {row.held} at {row.step}", False, mend)
    if rows and not queue.has_worker():
        text = f"{len(rows)} open workflows, and no worker polls the queue"
        yield Finding(text, False, "python -m labkit up")
    else:
        yield Finding(f"{len(rows)} open workflows")


async def _runs() -> tuple[list[Row], Queue]:
    client = await connect()
    queue = await describe_queue(client, settings().temporal_task_queue)
    return await list_rows(client, LISTED_AT_MOST, OPEN), queue


CHECKS = (
    python, packages, jupyter, proxies, account, disk, env_file, configuration, leftovers,
    processes, ports, servers, runs, passed_over,
)  # fmt: skip
