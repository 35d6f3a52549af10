"""The real Web UI and the real CLI: ciphertext alone, clear text with the codec server."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from labkit import Lab, codec_server
from labkit.core.settings import settings
from labkit.run import Run
from tests.browser.conftest import browser, picture

__all__ = ["browser"]

SECRET = "SealedNet-in-the-browser"
STORED = "Z0FBQUFB"  # how both of them show stored bytes: base64 of "gAAAA", as each token begins
MILLISECONDS = 20_000


@pytest.fixture(scope="module")
def run(sealed: Lab) -> Run:
    with sealed.env(LABKIT_ARCHITECTURE=SECRET):
        run = sealed.drop("good-browser.csv")
    run.follow(until="awaiting_prod_approval")
    return run


@pytest.fixture(scope="module")
def codec(run: Run) -> Iterator[str]:
    with codec_server.running() as address:
        yield address


def set_codec(page: Page, endpoint: str) -> None:
    """What a participant does: the glasses in the top bar, an address, and the page again."""
    page.get_by_role("button", name="Configure Codec Server").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Use my browser setting and ignore").click()
    dialog.get_by_role("textbox").first.fill(endpoint)
    dialog.get_by_role("button", name="Apply").click()
    dialog.wait_for(state="hidden")
    page.reload()


@pytest.fixture
def page(browser: Browser, run: Run) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(MILLISECONDS)
    page.goto(run.url)
    page.get_by_text("Event History").first.wait_for()
    yield page
    context.close()


@pytest.mark.browser
def test_the_web_ui_reads_through_the_codec_server(page: Page, run: Run, codec: str) -> None:
    page.get_by_text(re.compile(STORED)).first.wait_for()
    assert SECRET not in page.content()
    picture(page, "web-ui-ciphertext")
    set_codec(page, f"{codec}/{settings().labkit_codec_token.get_secret_value()}")
    page.get_by_text(re.compile(SECRET)).first.wait_for()
    assert STORED not in page.locator("main").inner_text()
    picture(page, "web-ui-clear")


@pytest.mark.browser
def test_the_web_ui_with_a_wrong_token_reads_nothing(page: Page, codec: str) -> None:
    with page.expect_response(re.compile("decode")) as answer:
        set_codec(page, f"{codec}/wrong")
    assert answer.value.status == 403
    page.get_by_text("Event History").first.wait_for()
    page.get_by_text(re.compile(STORED)).first.wait_for()
    assert SECRET not in page.content()


def test_the_cli_reads_through_the_codec_server(run: Run, codec: str) -> None:
    stored, clear = codec_server.show(run.id), codec_server.show(run.id, codec)
    assert STORED in stored and SECRET not in stored
    assert SECRET in clear and STORED not in clear
