"""``make pictures``: the pictures of README and of the notebooks, made anew from what runs."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from labkit.core.settings import REPOSITORY
from tests.browser.conftest import CELLS, SECONDS, open_notebook, run_cell, run_down_to, start_cell
from tests.browser.test_dashboard import home, press, row, served

__all__ = ["home", "served"]

pytestmark = [pytest.mark.browser, pytest.mark.long]

IMAGES = REPOSITORY / "notebooks" / "images"
LONG = SECONDS * 1000
FILES = ("good-may.csv", "good-june.csv", "bad-july.csv")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    yield page
    page.close()


def keep(shown: Page | Locator, name: str) -> None:
    """Take a picture, once nothing has moved for a moment."""
    path = IMAGES / f"{name}.png"
    before = b""
    while (now := shown.screenshot(path=path, animations="disabled")) != before:
        before = now


def show_cell(page: Page, source: str) -> None:
    """Bring the first cell whose source holds a text to the top, and its output into sight."""
    page.evaluate(
        f"""text => {{
            const {{content}} = window.jupyterapp.shell.currentWidget;
            const cell = {CELLS}.find(it => it.model.sharedModel.source.includes(text));
            content.activeCellIndex = {CELLS}.indexOf(cell);
            cell.node.scrollIntoView();
        }}""",
        source,
    )


def test_jupyterlab_at_work(page: Page, jupyter: str) -> None:
    """Notebook 01 while the forest grows: a picture of a moment, so it is taken at once."""
    open_notebook(page, jupyter, "01-happy-path.ipynb")
    run_down_to(page, "q.completed.predict()")
    show_cell(page, "q.completed.predict()")
    page.evaluate(
        f"""() => {{
            const {{content}} = window.jupyterapp.shell.currentWidget;
            content.activeCellIndex = {CELLS}.findIndex(
                it => it.model.sharedModel.source.includes('run = lab.drop("good.csv")'));
            void window.jupyterapp.commands.execute('notebook:run-cell');
        }}"""
    )
    page.get_by_text(re.compile(r"\d0 of 100 trees")).first.wait_for(timeout=LONG)
    page.screenshot(path=IMAGES / "lab-at-work.png")


def test_a_run_step_by_step(page: Page, jupyter: str) -> None:
    open_notebook(page, jupyter, "02-how-it-works.ipynb")
    run_down_to(page, "Tape(history)")
    show_cell(page, "Tape(history)")
    for _ in range(5):
        page.get_by_role("button", name="Next").press("Enter")
    page.get_by_text("Step 6 of 8. worker B").wait_for(timeout=LONG)
    keep(page.locator(".labkit-tape"), "step-by-step")


def test_buttons_and_panel(page: Page, jupyter: str) -> None:
    open_notebook(page, jupyter, "07-approval.ipynb")
    run_down_to(page, "panel = ada.approval()")
    panel = page.locator(".labkit-approval").last
    panel.scroll_into_view_if_needed(timeout=LONG)
    panel.get_by_role("button", name="Try the model").click()
    panel.get_by_text("dev answers").wait_for(timeout=LONG)
    keep(panel, "approval-panel")
    start_cell(page, "lab.postgres.buttons()")
    page.get_by_role("button", name="Stop postgres").click(timeout=LONG)
    page.get_by_text("postgres is stopped.").last.wait_for(timeout=LONG)
    keep(page.locator(".widget-hbox", has=page.get_by_text("Stop postgres")), "postgres-buttons")
    run_cell(page, "lab.postgres.start()")


def test_the_dashboard(page: Page, served: str, tmp_path: Path) -> None:
    page.goto(served, timeout=LONG, wait_until="commit")
    page.get_by_text("No runs yet").wait_for(timeout=LONG)
    for name in FILES:
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Upload a CSV").click()
        sample = REPOSITORY / "data" / "examples" / "abalone.csv"
        (tmp_path / name).write_bytes(sample.read_bytes())
        chooser.value.set_files(tmp_path / name)
        row(page, name.removesuffix(".csv"), "stopped by the gate" if "bad" in name else "waiting")
    press(page, "Stop PostgreSQL")
    expect(page.get_by_text("PostgreSQL: stopped")).to_be_visible(timeout=LONG)
    press(page, "Drop a good sample")
    page.get_by_text(re.compile(r"attempt [34]")).first.wait_for(timeout=LONG)
    page.screenshot(path=IMAGES / "dashboard.png")
    press(page, "Start PostgreSQL")
    page.goto(f"{served}/?theme=dark", timeout=LONG, wait_until="commit")
    row(page, "good", "waiting")
    page.get_by_role("img", name="Timeline").wait_for(timeout=LONG)
    page.screenshot(path=IMAGES / "dashboard-dark.png")
