"""The dashboard as Voilà serves it, in a real browser, as an instructor uses it."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from labkit.core.record import State
from labkit.core.settings import REPOSITORY
from labkit.views.buttons import BUSY
from tests.browser.conftest import end, picture, violations
from tests.conftest import enter, make_home

pytestmark = pytest.mark.browser

SECONDS = 60
LONG = SECONDS * 1000
FIRST_PAINT = 5_000
EXAMPLE = REPOSITORY / "data/examples/abalone.csv"
DROP = """(box, names) => {
    const files = new DataTransfer();
    for (const name of names) files.items.add(new File(['x'], name));
    box.dispatchEvent(new DragEvent('drop', {dataTransfer: files, bubbles: true}));
}"""
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = make_home()
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder)
        yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[str]:
    """A page that is served; at its end, no process is left."""
    with serving() as url:
        yield url
    assert (State.read().users, State.read().services) == ([], {})


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """The address that ``python -m labkit dashboard`` prints."""
    command = [sys.executable, "-m", "labkit", "dashboard", "--no-browser", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found
        wait_until_it_answers(found[0])
        yield found[0]
        assert end(process) == 0
    finally:
        process.kill()
        subprocess.run([sys.executable, "-m", "labkit", "down"], capture_output=True)


def wait_until_it_answers(url: str) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/voila/static/none", trust_env=False)
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail(f"nothing answers at {url} within {SECONDS} s")


@pytest.fixture(scope="module")
def page(browser: Browser, served: str) -> Page:
    """One page for the tests below, which go on from one another's runs."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    elsewhere: list[str] = []
    page.on(
        "request", lambda r: None if r.url.startswith(ours(served)) else elsewhere.append(r.url)
    )
    page.goto(served, timeout=LONG, wait_until="commit")
    page.get_by_text("Starting the lab: a Temporal server").wait_for(timeout=FIRST_PAINT)
    page.get_by_text("No runs yet").wait_for(timeout=LONG)
    assert elsewhere == []
    return page


def ours(served: str) -> tuple[str, ...]:
    return (served, served.replace("http", "ws"), "data:", "blob:")


def row(page: Page, name: str, words: str) -> None:
    """Wait until the list has a run of a name, in a status."""
    pattern = re.compile(rf"{name} +{words}")
    page.get_by_role("button", name=pattern).wait_for(timeout=LONG)


def upload(page: Page, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a CSV").click()
    chooser.value.set_files(path)


def press(page: Page, name: str) -> None:
    """Press a button, once what was pressed beside it is done: until then it does nothing."""
    button = page.get_by_role("button", name=name)
    expect(button).not_to_have_class(re.compile(BUSY), timeout=LONG)
    button.click()


def test_upload_follow_and_approve_with_the_keyboard(page: Page, tmp_path: Path) -> None:
    upload(page, shutil.copy(EXAMPLE, tmp_path / "good-up.csv"))
    page.get_by_text(re.compile(r"Started mlops-.*-good-up")).wait_for(timeout=LONG)
    row(page, "good-up", "waiting for approval")
    page.get_by_text("5 of 7 steps done").wait_for(timeout=LONG)
    page.get_by_role("img", name="Timeline").wait_for(timeout=LONG)
    picture(page, "voila-light")
    assert violations(page, options=RULES) == []
    page.get_by_label("Your name").focus()
    page.keyboard.type("Ada")
    approve = page.get_by_role("button", name="Approve")
    for _ in range(10):
        page.keyboard.press("Tab")
        if approve.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    row(page, "good-up", "on prod, accuracy 0.88")
    page.get_by_text("completed: deployed to prod", exact=True).wait_for(timeout=LONG)
    page.get_by_text("approved by Ada").first.wait_for(timeout=LONG)


def test_what_cannot_be_used_is_refused_in_words(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    upload(page, tmp_path / "notes.txt")
    page.get_by_text("'notes.txt' is not the plain name of a CSV").wait_for(timeout=LONG)
    page.locator(".labkit-uploads").evaluate(DROP, ["one.txt", "two.txt"])
    both = re.compile("'one.txt' is not the plain name .*'two.txt' is not the plain name")
    page.get_by_text(both).wait_for(timeout=LONG)
    large = tmp_path / "large.csv"
    large.write_bytes(b"0" * (33 * 2**20))
    upload(page, large)
    page.get_by_text("large.csv is larger than 32 MiB").wait_for(timeout=LONG)


def test_an_outage_by_button_and_the_recovery(page: Page) -> None:
    press(page, "Stop PostgreSQL")
    expect(page.get_by_text("PostgreSQL: stopped")).to_be_visible(timeout=LONG)
    press(page, "Drop a good sample")
    page.get_by_text(re.compile(r"attempt \d")).first.wait_for(timeout=LONG)
    assert violations(page, options=RULES) == []
    press(page, "Start PostgreSQL")
    row(page, "good", "waiting for approval")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Reason").fill("too old")
    page.get_by_role("button", name="Reject").click()
    page.get_by_text("too old").first.wait_for(timeout=LONG)


def test_a_rollback_says_who_and_why(page: Page) -> None:
    page.get_by_label("Where").select_option("dev")
    press(page, "Roll back")
    page.get_by_text("A rollback says who and why").wait_for(timeout=LONG)
    page.get_by_label("You are").fill("Ada")
    page.locator("label:visible", has_text="Why").locator("+ input").fill("too old a sample")
    press(page, "Roll back")
    page.get_by_text(re.compile("dev serves good-up-[0-9a-f]{8} again")).wait_for(timeout=LONG)
    serving = page.get_by_role("table", name="What serves")
    expect(serving.get_by_role("row").nth(1)).to_contain_text("good-up", timeout=LONG)


def test_what_the_server_stores_and_the_logs_are_shown(page: Page) -> None:
    press(page, "X-ray")
    page.get_by_role("table", name="Stored payloads").wait_for(timeout=LONG)
    press(page, "Show the last lines")
    page.get_by_label("Last lines of the log").wait_for(timeout=LONG)
    assert violations(page, options=RULES) == []
    press(page, "X-ray")


def test_the_keyboard_stays_where_it_was(page: Page) -> None:
    """A press that takes time takes the focus away from nobody, and the focus can be seen."""
    for name, state in (("Stop PostgreSQL", "stopped"), ("Put everything right", "running")):
        pressed = page.get_by_role("button", name=name)
        expect(pressed).not_to_have_class(re.compile(BUSY), timeout=LONG)
        pressed.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_text(f"PostgreSQL: {state}")).to_be_visible(timeout=LONG)
        expect(pressed).to_be_focused()
    outline = pressed.evaluate("button => getComputedStyle(button).outline")
    assert "3px" in outline and "rgba(0, 0, 0, 0.87)" in outline
    picture(page, "voila-focus")


def test_the_theme_is_the_systems_until_one_is_chosen(page: Page) -> None:
    colour = "getComputedStyle(document.body).getPropertyValue('--jp-layout-color0').trim()"
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{colour} !== 'white'", timeout=LONG)
    picture(page, "voila-system-dark")
    assert violations(page, options=RULES) == []
    page.get_by_label("Theme").select_option("light")
    assert page.evaluate(colour) == "white"
    page.get_by_label("Theme").select_option("")
    page.wait_for_function(f"{colour} !== 'white'", timeout=LONG)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{colour} === 'white'", timeout=LONG)


@pytest.mark.parametrize("width", [320, 800, 1024])
def test_a_narrow_page_hides_nothing(page: Page, width: int) -> None:
    before = page.viewport_size
    page.set_viewport_size({"width": width, "height": 768})
    wide = page.evaluate("document.documentElement.scrollWidth")
    rights = "buttons => buttons.map(it => it.getBoundingClientRect().right)"
    buttons = page.locator(".labkit-dashboard button:visible").evaluate_all(rights)
    sides = "them => them.flatMap(it => { const box = it.getBoundingClientRect(); "
    sides += "return [box.width, box.height]; })"
    targets = page.locator("main :is(button, select, input):visible").evaluate_all(sides)
    picture(page, f"voila-{width}")
    page.set_viewport_size(before)
    assert max(wide, *buttons) <= width
    assert min(targets) >= 24, "WCAG 2.5.8: a target is 24 by 24 CSS pixels at least"


def test_a_page_whose_server_has_ended_says_so(page: Page) -> None:
    page.context.set_offline(True)
    page.get_by_role("alert").filter(has_text="server of this page has ended").wait_for(
        timeout=LONG
    )
    assert page.locator("main").evaluate("main => main.inert")
    picture(page, "voila-server-ended")
    page.context.set_offline(False)
    expect(page.get_by_text("server of this page has ended")).to_have_count(0, timeout=LONG)
    assert not page.locator("main").evaluate("main => main.inert")


def test_the_page_outlives_the_temporal_server(page: Page) -> None:
    press(page, "Stop Temporal")
    problem = page.get_by_role("alert").filter(has_text="The Temporal server does not answer")
    problem.wait_for(timeout=LONG)
    assert violations(page, options=RULES) == []
    press(page, "Start Temporal")
    expect(page.get_by_text("Temporal: running")).to_be_visible(timeout=LONG)
    expect(problem).to_have_count(0, timeout=LONG)
    row(page, "good-up", "on prod")


def test_a_reload_shows_the_same_run_and_leaves_one_kernel(page: Page, served: str) -> None:
    page.locator("button.labkit-row", has_text="good-up").click()
    page.get_by_role("heading", name=re.compile("-good-up$")).wait_for(timeout=LONG)
    link = page.get_by_role("link", name="Link to this run").get_attribute("href")
    press(page, "Inject fault")
    page.get_by_text("Fault: training fails every time").wait_for(timeout=LONG)
    page.goto(f"{served}/{link}&theme=dark", timeout=LONG, wait_until="commit")
    row(page, "good-up", "on prod")
    page.get_by_role("heading", name=re.compile("-good-up$")).wait_for(timeout=LONG)
    page.get_by_text("Fault: none").wait_for(timeout=LONG)  # the old page has put it back
    page.get_by_text("Worker: plain").wait_for(timeout=LONG)
    picture(page, "voila-dark")
    assert violations(page, options=RULES) == []
    labs = [user for user in State.read().users if user.what == "lab"]
    assert len(labs) == 1
