"""Notebook 07 in a real JupyterLab: people decide in the panel, with a mouse or with keys alone."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from labkit.services.temporal import cli
from labkit.views.live import WIDGET
from tests.browser.conftest import (
    CELLS,
    choose_theme,
    open_notebook,
    output_of,
    picture,
    run_cell,
    run_down_to,
    violations,
)

pytestmark = pytest.mark.browser

MILLISECONDS = 40_000


@pytest.fixture(scope="module")
def page(browser: Browser, jupyter: str) -> Iterator[Page]:
    """Notebook 07, run until its first panel has approved; ``test_in_one_home.py`` runs it all."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    open_notebook(page, jupyter, "07-approval.ipynb")
    run_down_to(page, 'panel.approve(by="Ada"')
    yield page
    page.close()


def panel_of(page: Page) -> Locator:
    panel = page.locator(".labkit-approval").last
    panel.scroll_into_view_if_needed(timeout=MILLISECONDS)
    return panel


def new_panel(page: Page) -> Locator:
    """A panel for a run of its own, in a new cell at the end; the run is called ``run``."""
    run_cell(page, "run = lab.drop('good-panel.csv')\nrun.follow(until='awaiting_prod_approval')")
    before = page.locator(".labkit-approval").count()
    run_cell(page, "panel = run.approval()")
    expect(page.locator(".labkit-approval")).to_have_count(before + 1, timeout=MILLISECONDS)
    return panel_of(page)


def save(page: Page) -> dict[str, Any]:
    """Save the notebook; returns what the file holds."""
    return page.evaluate(
        """async () => {
            await window.jupyterapp.commands.execute('docmanager:save');
            const {context} = window.jupyterapp.shell.currentWidget;
            const contents = window.jupyterapp.serviceManager.contents;
            return (await contents.get(context.path, {type: 'notebook', content: true})).content;
        }"""
    )


def says(panel: Locator, text: str, milliseconds: float = MILLISECONDS) -> None:
    expect(panel.get_by_role("status").filter(has_text=text)).to_have_count(1, timeout=milliseconds)


def button(panel: Locator, name: str) -> Locator:
    return panel.get_by_role("button", name=name, exact=True)


def asked(page: Page, expression: str) -> str:
    """The value of an expression in the kernel, as text."""
    outputs = json.loads(run_cell(page, f"print({expression})"))
    return outputs[0]["text"].strip()


def test_the_notebook_runs_and_keys_alone_approve(page: Page) -> None:
    assert "Taken." in output_of(page, 'panel.approve(by="Ada"')
    says(panel_of(page), "Approved by Ada at ")
    panel = new_panel(page)
    says(panel, "Waits for a decision since")
    button(panel, "Try the model").focus()
    cells = page.evaluate(f"{CELLS}.length")
    page.keyboard.type("bax")  # commands of the notebook, but not here
    page.keyboard.press("Enter")
    says(panel, "dev answers")
    expect(button(panel, "Try the model")).to_be_focused()
    page.keyboard.press("Tab")
    expect(panel.get_by_label("Your name")).to_have_css("outline-style", "solid")
    page.keyboard.type("Abby Cox")  # letters that are commands of the notebook
    page.keyboard.press("Tab")
    page.keyboard.type("dev answers well")
    picture(page, "approval-panel")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    says(panel, "Approved by Abby Cox at ")
    says(panel, "The run is over: completed: deployed to prod.")
    expect(button(panel, "Approve")).to_be_disabled()
    expect(button(panel, "Try the model")).to_be_focused()
    page.keyboard.press("Enter")
    says(panel, "prod answers")
    assert page.evaluate(f"{CELLS}.length") == cells
    assert asked(page, "run.decisions()[0]['reason']") == "dev answers well"
    saved = save(page)
    assert "kernelspec" in saved["metadata"] and "widgets" not in saved["metadata"]


def test_a_saved_notebook_needs_no_kernel(page: Page) -> None:
    """A widget that is alive is not in the file: a sentence is, which says how to show it."""
    new_panel(page)
    run_cell(page, "lab.postgres.buttons()\nfrom lessons.tape import Tape")
    run_cell(page, "Tape(run.history()).show()")
    assert WIDGET in output_of(page, "run.approval()")  # on the page it is
    outputs = [cell.get("outputs", []) for cell in save(page)["cells"]]
    texts = json.dumps(outputs[-4:])
    assert WIDGET not in json.dumps(outputs)
    assert "Show it: run.approval()" in texts and "lab.postgres.stop()" in texts
    assert "image/png" in texts


def test_reject_needs_a_reason(page: Page) -> None:
    panel = new_panel(page)
    panel.get_by_label("Your name").fill("Edsger")
    button(panel, "Reject").click()
    says(panel, "Not sent. Write a reason first")
    panel.get_by_label("Reason").fill("considered harmful")
    button(panel, "Reject").click()
    says(panel, "Rejected by Edsger at ")
    says(panel, ": considered harmful.")
    assert asked(page, "run.status().deployments.keys()") == "dict_keys(['dev'])"


def test_tidying_up_shows_in_the_panel(page: Page) -> None:
    panel = new_panel(page)
    run_cell(page, "lab.tidy()")
    panel.scroll_into_view_if_needed()
    says(panel, "Rejected by lab.tidy at ")


def test_approved_from_the_command_line(page: Page) -> None:
    """The real Temporal CLI, while the panel is open: it notices within a second."""
    panel = new_panel(page)
    address, id = asked(
        page,
        "__import__('labkit.core.record', fromlist=['']).recorded_address('temporal'), "
        "run.id, sep=' '",
    ).split()
    words = ["workflow", "signal", "--workflow-id", id, "--name", "approve_prod_deployment"]
    subprocess.run([cli(), *words, "--address", address], check=True, capture_output=True)
    says(panel, "Approved by somebody without a name at ", 1000)
    expect(button(panel, "Approve")).to_be_disabled()


def test_a_double_click_decides_once(page: Page) -> None:
    panel = new_panel(page)
    panel.get_by_label("Your name").fill("Ada")
    button(panel, "Approve").dblclick()
    says(panel, "The run is over: completed: deployed to prod.")
    kinds = "[event.WhichOneof('attributes') for event in run.history().events]"
    update = "'workflow_execution_update_accepted_event_attributes'"
    assert asked(page, f"{kinds}.count({update})") == "1"
    assert "Not taken" not in panel.inner_text()


def test_the_server_goes_and_comes_back(page: Page) -> None:
    panel = new_panel(page)
    run_cell(page, "lab.temporal.stop()")
    panel.scroll_into_view_if_needed()
    says(panel, "The Temporal server does not answer")
    expect(button(panel, "Approve")).to_be_disabled()
    picture(page, "panel-server-down")
    run_cell(page, "lab.temporal.start()\nlab = Lab.start()")
    says(panel, "Waits for a decision")
    panel.get_by_label("Your name").fill("Ada")
    button(panel, "Approve").click()
    says(panel, "The run is over: completed: deployed to prod.")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_everybody_can_use_it(page: Page, theme: str) -> None:
    """axe-core finds nothing in the panel: names, roles, contrast, in either theme."""
    choose_theme(page, theme)
    panel = new_panel(page)
    panel.get_by_label("Your name").fill("Ada")
    button(panel, "Try the model").click()
    says(panel, "dev answers")
    page.keyboard.press("Tab")
    picture(page, f"panel-{theme.lower()}")
    assert violations(page, ".labkit-approval") == []
    small = panel.evaluate(
        """panel => [...panel.querySelectorAll('*')]
            .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
                || e.tagName === 'INPUT')
            .filter(e => parseFloat(getComputedStyle(e).fontSize) < 16 && e.tagName !== 'STYLE')
            .map(e => e.outerHTML)"""
    )
    assert small == []  # readable on a projector
