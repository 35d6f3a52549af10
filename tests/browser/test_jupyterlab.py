"""Notebook 01 in a real JupyterLab, in a real browser, as a participant runs it."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from labkit.settings import paths
from tests.browser.conftest import (
    CELLS,
    SECONDS,
    open_notebook,
    output_of,
    picture,
    run_all,
    run_cell,
    wait_until_run,
)

pytestmark = pytest.mark.browser


def test_notebook_01_runs_to_prod(browser: Browser, jupyter: str) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    open_notebook(page, jupyter, "01-happy-path.ipynb")
    run_all(page)
    steps = page.get_by_role("table", name="Steps of the pipeline").first
    steps.wait_for(timeout=SECONDS * 1000)
    assert "model_training" in steps.inner_text()
    wait_until_run(page)
    assert "completed: deployed to prod" in output_of(page, "run.follow()")
    assert "Proved: train_model was asked for once" in output_of(page, "run.prove")
    errors = page.evaluate(
        f"() => {CELLS}.filter(c => c.model.type === 'code').flatMap(c => c.model.outputs.toJSON())"
        ".filter(output => output.output_type === 'error').map(output => output.evalue)"
    )
    assert errors == []
    # The live widget has left nothing behind: only the last state, as text.
    page.get_by_text("data_preprocessing      done").first.wait_for(timeout=10_000)
    assert page.get_by_role("table", name="Steps of the pipeline").count() == 0
    assert page.get_by_text("Error displaying widget").count() == 0


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_dashboard_in_a_notebook(
    browser: Browser, jupyter: str, tmp_path: Path, theme: str
) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    open_notebook(page, jupyter, "dashboard.ipynb")
    page.evaluate(
        f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{theme}'}})"
    )
    run_cell(page, page.evaluate(f"{CELLS}[1].model.sharedModel.source"))
    page.get_by_role("button", name="Upload a CSV").wait_for(timeout=SECONDS * 1000)
    large = tmp_path / f"large-{theme[-4:].strip()}.csv"
    large.write_bytes(paths().example.read_bytes() * 60)  # 12 MB: more than Jupyter's own limit
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a CSV").click()
    chooser.value.set_files(large)
    page.get_by_text(f"-{large.stem}.").wait_for(timeout=SECONDS * 1000)
    picture(page, f"dashboard-{theme[-4:].strip()}")
    found = Axe().run(page, context=".labkit-dashboard")
    assert found.violations_count == 0, found.generate_report()
    page.close()
