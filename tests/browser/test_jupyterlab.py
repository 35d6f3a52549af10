"""Notebook 01 in a real JupyterLab and browser, as a participant runs it; parts of others."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import (
    CELLS,
    SECONDS,
    choose_theme,
    open_notebook,
    output_of,
    picture,
    run_all,
    run_cell,
    run_down_to,
    start_cell,
    violations,
    wait_until_run,
)

pytestmark = pytest.mark.browser

# Notes in each frame how high the output is: one that is emptied for a moment would flicker.
LOWEST = f"""() => {{
    const output = {CELLS}.at(-1).node.querySelector('.jp-OutputArea');
    window.lowest = output.clientHeight;
    const look = () => {{
        window.lowest = Math.min(window.lowest, output.clientHeight);
        requestAnimationFrame(look);
    }};
    look();
}}"""


def test_notebook_01_runs_to_prod(browser: Browser, jupyter: str) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    open_notebook(page, jupyter, "01-happy-path.ipynb")
    run_all(page)
    wait_until_run(page)
    assert "deployed to prod" in output_of(page, "run.follow()")
    assert "Proved: train_model was asked for once" in output_of(page, "run.prove")
    # While a run goes on there is a strip; its training fails once, so that there is time to look.
    run_cell(page, "fault = lab.fault('training', times=1)\nfault.__enter__()")
    start_cell(page, "lab.drop('good-slow.csv').follow(until='awaiting_prod_approval')")
    steps = page.get_by_role("list", name="Steps of the pipeline").last
    expect(steps).to_contain_text("backing off", timeout=SECONDS * 1000)
    expect(steps).to_contain_text(re.compile("attempt 2 in [1-5] s"))
    picture(page, "strip-backing-off")
    page.evaluate(LOWEST)
    expect(steps.locator("strong").nth(5)).to_have_text("waiting", timeout=SECONDS * 1000)
    assert "tried twice" in steps.locator("li").nth(1).inner_text()
    assert page.evaluate("window.lowest") > 50, "it flickers"
    picture(page, "strip-waiting")
    assert page.get_by_text("Error displaying widget").count() == 0
    run_cell(page, "fault.__exit__(None, None, None)")
    page.close()


def test_notebook_02_steps_through_its_run(browser: Browser, jupyter: str) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    open_notebook(page, jupyter, "02-how-it-works.ipynb")
    run_down_to(page, "Tape(history)")
    onward = page.get_by_role("button", name="Next")
    onward.scroll_into_view_if_needed()
    page.get_by_text("Step 1 of 8. client: starts Tea").wait_for(timeout=SECONDS * 1000)
    for _ in range(5):
        onward.press("Enter")
    page.get_by_text("Step 6 of 8. worker B").wait_for(timeout=SECONDS * 1000)
    page.get_by_role("img", name=re.compile("^The run up to step 6. worker B")).wait_for()
    picture(page, "tape")
    assert violations(page, ".labkit-tape") == []
    page.get_by_role("button", name="Play").press("Enter")
    page.get_by_text("Step 8 of 8. worker B").wait_for(timeout=SECONDS * 1000)
    page.get_by_role("button", name="Play").wait_for()
    page.close()


def test_the_dashboard_in_a_notebook(browser: Browser, jupyter: str, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    open_notebook(page, jupyter, "dashboard.ipynb")
    run_cell(page, page.evaluate(f"{CELLS}[1].model.sharedModel.source"))
    large = tmp_path / "large.csv"
    large.write_bytes(b"0" * 12_000_000)  # more than Jupyter's own limit of 10 MiB
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a CSV").click(timeout=SECONDS * 1000)
    chooser.value.set_files(large)
    failed = page.get_by_role("button", name=re.compile("large +failed at data preprocessing"))
    failed.wait_for(timeout=SECONDS * 1000)
    for theme in ("Light", "Dark"):
        choose_theme(page, theme)
        picture(page, f"dashboard-{theme.lower()}")
        assert violations(page, ".labkit-dashboard") == []
