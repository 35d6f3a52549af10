"""A real JupyterLab in a real browser, and how tests find their way about in it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

from labkit.core.settings import REPOSITORY
from tests.conftest import at, make_home
from tests.ports import BLOCK, JUPYTER

SECONDS = 150
POLL = 200  # milliseconds; as a rule a page asks at each frame, which keeps a core busy drawing
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")  # its event loop would be in the way of later tests
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "Chromium is missing. On Debian: apt install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def jupyter() -> Iterator[str]:
    """JupyterLab as ``make lab`` starts it, on a copy of the notebooks; one for all its tests."""
    home = make_home()
    port = BLOCK.of(home) + JUPYTER
    for folder in ("notebooks", "data/examples"):
        shutil.copytree(REPOSITORY / folder, home / folder)
    command = [sys.executable, "-m", "labkit", "lab", "--no-browser", f"--ServerApp.port={port}"]
    command += ["--IdentityProvider.token=test", "--LabApp.expose_app_in_browser=True"]
    process = subprocess.Popen(
        command,
        env=os.environ | at(home) | {"JUPYTER_CONFIG_DIR": str(home / "jupyter")},
        stdout=(home / "jupyter.log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        yield f"http://127.0.0.1:{port}"
        end(process)
    finally:
        process.kill()
        subprocess.run([sys.executable, "-m", "labkit", "down"], env=os.environ | at(home))
        shutil.rmtree(home)


def open_notebook(page: Page, jupyter: str, name: str) -> None:
    deadline = time.monotonic() + SECONDS
    url = f"{jupyter}/lab/tree/notebooks/{name}?token=test"
    while True:
        try:
            page.goto(url)
            break
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    shown = "window.jupyterapp?.shell.currentWidget"  # at first one that was open before, perhaps
    kernel = f"{shown}?.sessionContext?.session?.kernel"
    page.wait_for_function(
        f"() => {shown}?.context?.path === 'notebooks/{name}'"
        f" && {kernel}?.connectionStatus === 'connected' && {kernel}?.status === 'idle'",
        timeout=SECONDS * 1000,
        polling=POLL,
    )
    # Cells come in one by one, the later ones when the page is idle.
    page.wait_for_function(f"() => {CELLS}.length > 1", timeout=SECONDS * 1000, polling=POLL)
    assert not page.evaluate(f"{shown}.context.model.dirty"), f"{name} has changes to save"


CELLS = "window.jupyterapp.shell.currentWidget.content.widgets"


def run_all(page: Page) -> None:
    """Clear what was committed, and start Run > Run All Cells."""
    for command in ("editmenu:clear-all", "runmenu:run-all"):
        page.evaluate(f"void window.jupyterapp.commands.execute('{command}')")


ERRORS = (
    f"{CELLS}.filter(cell => cell.model.type === 'code')"
    ".flatMap(cell => cell.model.outputs.toJSON())"
    ".filter(output => output.output_type === 'error').map(output => output.evalue)"
)


def run_down_to(page: Page, source: str) -> None:
    """Run > Run All Above Selected Cell, below the first cell whose source holds a text."""
    below = page.evaluate(
        f"""text => {{
            const below = 1 + {CELLS}.findIndex(cell =>
                cell.model.type === 'code' && cell.model.sharedModel.source.includes(text));
            window.jupyterapp.shell.currentWidget.content.activeCellIndex = below;
            return below;
        }}""",
        source,
    )
    assert below, f"no cell holds {source!r}"
    for command in ("editmenu:clear-all", "notebook:run-all-above"):
        page.evaluate(f"void window.jupyterapp.commands.execute('{command}')")
    wait_until_run(page, below)


def wait_until_run(page: Page, number: int | None = None) -> None:
    """Wait until each code cell has run, or each of the first few; the page shows those in sight.

    An error ends the wait at once: JupyterLab runs no further cell.
    """
    cells = CELLS if number is None else f"{CELLS}.slice(0, {number})"
    waits = f"{cells}.filter(cell => cell.model.type === 'code' && !cell.model.executionCount)"
    try:
        page.wait_for_function(
            f"() => {waits}.length === 0 || {ERRORS}.length > 0",
            timeout=SECONDS * 1000,
            polling=POLL,
        )
    except TimeoutError:
        sources = page.evaluate(f"() => {waits}.map(cell => cell.model.sharedModel.source)")
        pytest.fail(f"not run within {SECONDS} s: {sources}")
    assert page.evaluate(f"() => {ERRORS}") == []


def start_cell(page: Page, source: str) -> None:
    """Add a cell at the end, start it, and have it in sight: JupyterLab draws no other."""
    page.evaluate(
        """source => {
            const notebook = window.jupyterapp.shell.currentWidget.content;
            const cells = notebook.model.sharedModel;
            cells.insertCell(cells.cells.length, {cell_type: 'code', source});
            notebook.activeCellIndex = cells.cells.length - 1;
            void window.jupyterapp.commands.execute('notebook:run-cell');
        }""",
        source,
    )
    page.evaluate(f"() => {CELLS}.at(-1).node.scrollIntoView()")


def run_cell(page: Page, source: str) -> str:
    """Add a cell at the end, run it, and return its outputs, as JSON."""
    cell = f"{CELLS}.at(-1)"
    start_cell(page, source)
    page.wait_for_function(
        f"() => {cell}.model.executionCount", timeout=SECONDS * 1000, polling=POLL
    )
    page.evaluate(f"() => {cell}.node.scrollIntoView()")
    return page.evaluate(f"() => JSON.stringify({cell}.model.outputs.toJSON())")


def end(process: subprocess.Popen) -> int:
    """Ask a server to end, and see that nothing that it started is left."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    status = process.wait(40)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    return status


def choose_theme(page: Page, theme: str) -> None:
    """Make JupyterLab ``Light`` or ``Dark``."""
    name = f"JupyterLab {theme}"
    page.evaluate(
        "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name
    )
    page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")


def violations(page: Page, context: str | None = None, options: dict | None = None) -> list[str]:
    """What axe-core finds wrong on the page, or in a part of it, for people who use it."""
    options = options or {"resultTypes": ["violations"]}
    found = Axe().run(page, context=context, options=options).response["violations"]
    return [
        f"{v['id']}: {node['target']} {node['html'][:200]}" for v in found for node in v["nodes"]
    ]


def picture(page: Page, name: str) -> None:
    """Keep a screenshot for who wants to look: SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def output_of(page: Page, source: str) -> str:
    """The outputs, as JSON, of the first cell whose source holds a text."""
    return page.evaluate(
        f"""text => JSON.stringify({CELLS}
            .find(cell => cell.model.sharedModel.source.includes(text)).model.outputs.toJSON())""",
        source,
    )
