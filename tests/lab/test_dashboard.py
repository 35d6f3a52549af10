"""The dashboard without a browser: what its buttons do as calls, and what it costs to look at."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
import traitlets
from temporalio.client import Client

from labkit import Lab, faults, services
from labkit.ask import runs
from labkit.core.settings import LabError, known
from labkit.pipeline.messages import PipelineInput
from labkit.views import dashboard as module
from labkit.views import uploads
from labkit.views.buttons import BUSY
from labkit.views.dashboard import TICK_SECONDS, Dashboard
from tests.conftest import enter
from tests.lab.commands import Command
from tests.lab.test_lab import small, stop_lab_alone

LONG = 60
NOBODY = "a queue that nobody polls"
MANY = 200
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def password() -> str:
    """The one that the pipeline uses now."""
    return known()["POSTGRES_PASSWORD"]


@pytest.fixture(scope="module")
def module_dashboard(servers_home: Path) -> Iterator[Dashboard]:
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, servers_home)
        services.start()
        dashboard = Dashboard(Lab.start)
        yield dashboard
        dashboard.close()
        stop_lab_alone()


@pytest.fixture
def dashboard(module_dashboard: Dashboard, servers: Path) -> Dashboard:
    return module_dashboard


@pytest.fixture
def quiet(dashboard: Dashboard) -> Iterator[Dashboard]:
    """The dashboard while its own tasks rest, so that the test alone looks."""

    async def rest() -> None:
        await asyncio.sleep(LONG)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dashboard, "_watch", rest)
        patch.setattr(dashboard, "_watch_run", lambda run: rest())
        watch_again(dashboard)
        yield dashboard
    watch_again(dashboard)


def watch_again(dashboard: Dashboard) -> None:
    for task in dashboard._tasks.values():
        task.cancel()
    dashboard._tasks["list"] = dashboard.lab.task(dashboard._watch)
    if run := dashboard.run:
        dashboard._tasks["run"] = dashboard.lab.task(lambda: dashboard._watch_run(run))


def tick_run(dashboard: Dashboard) -> None:
    """Look once at the run that is shown."""
    dashboard.lab.task(lambda: dashboard._tick_run(dashboard.run)).result(LONG)


def wait_for(what: Callable[[], Any], seconds: float = LONG) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
    return found


def choose(dashboard: Dashboard, name: str, content: bytes) -> None:
    """What the browser sends when a file was chosen."""
    file = {"name": name, "type": "text/csv", "size": len(content), "last_modified": NOW}
    dashboard._uploads.button.value = (file | {"content": memoryview(content)},)


def text(widget: ipywidgets.HTML) -> str:
    return re.sub(r"<[^>]+>", " ", widget.value)


def widgets(parent: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    children = getattr(parent, "children", ())
    return [parent, *(found for child in children for found in widgets(child))]


def button(dashboard: Dashboard, label: str) -> ipywidgets.Button:
    found = [w for w in widgets(dashboard.widget) if getattr(w, "description", "") == label]
    assert len(found) == 1, label
    return found[0]


def press(dashboard: Dashboard, label: str) -> None:
    """Press a button, once what was pressed beside it is done."""
    wait_for(lambda: BUSY not in button(dashboard, label)._dom_classes)
    button(dashboard, label).click()


def test_an_upload_is_followed_and_approved(dashboard: Dashboard, tmp_path: Path) -> None:
    content = small(tmp_path, rows=4177).read_bytes()
    choose(dashboard, "good-dash.csv", content)
    wait_for(lambda: "Started mlops-" in dashboard._uploads.said.value)
    assert dashboard.run and dashboard.run.id.endswith("-good-dash")
    wait_for(lambda: "5 of 7 steps done" in dashboard._progress.value)
    wait_for(lambda: 'alt="Timeline' in dashboard._picture.value)
    assert "train_model" in dashboard._picture.value
    wait_for(lambda: "waiting for approval" in dashboard._list.box.children[0].description)
    assert "Taken." in dashboard.approve("Ada")
    wait_for(lambda: "completed: deployed to prod" in dashboard._progress.value)
    wait_for(lambda: "on prod, accuracy 0.88" in dashboard._list.box.children[0].description)
    assert dashboard.run.status().decision.by == "Ada"


def test_a_run_that_the_gate_stops_says_why(dashboard: Dashboard) -> None:
    press(dashboard, "Drop a bad sample")
    wait_for(lambda: "completed: quality gate" in dashboard._progress.value)
    said = text(dashboard._figures)
    assert re.search(r"accuracy \(within 3 rings\) +0\.7\d+ +at least 0\.80 +falls short", said)
    assert re.search(r"MAE in rings +2\.\d+ +at most 2\.50", said)
    with pytest.raises(LabError, match="No run is shown that asks for approval"):
        dashboard.approve("Ada")


def test_what_cannot_be_used_is_refused_in_words(dashboard: Dashboard) -> None:
    for name, content, says in (
        ("notes.txt", b"x", "not the plain name of a CSV"),
        ("../../etc/x.csv", b"x", "not the plain name of a CSV"),
        ("large.csv", bytes(33 * 2**20), "larger than 32 MiB"),
    ):
        choose(dashboard, name, content)
        wait_for(lambda says=says: says in dashboard._uploads.said.value)
        assert "role='alert'" in dashboard._uploads.said.value
        wait_for(lambda: dashboard._uploads.button.value == ())


def test_an_outage_is_seen_with_its_attempts_and_ends(dashboard: Dashboard, tmp_path: Path) -> None:
    press(dashboard, "Stop PostgreSQL")
    wait_for(lambda: "stopped" in dashboard._breaks.state["postgres"].value)
    dashboard.upload("good-outage.csv", small(tmp_path).read_bytes())
    wait_for(lambda: re.search(r"attempt \d in \d s", dashboard._progress.value))
    press(dashboard, "Start PostgreSQL")
    wait_for(lambda: "running" in dashboard._breaks.state["postgres"].value)
    wait_for(lambda: "experiment_tracking" in dashboard.run.status().completed_steps)
    wait_for(lambda: not re.search(r"attempt \d", dashboard._progress.value))


def test_the_temporal_server_goes_and_comes_back(dashboard: Dashboard) -> None:
    dashboard.stop("temporal")
    wait_for(lambda: "does not answer" in dashboard._problem.value, seconds=5)
    before = dashboard.rows
    time.sleep(3 * TICK_SECONDS)
    assert before and dashboard.rows == before, "the last that was known"
    dashboard.start("temporal")
    wait_for(lambda: dashboard._problem.value == "")


def test_faults_and_passwords_are_put_back(dashboard: Dashboard) -> None:
    right = password()
    assert dashboard.inject("training", times=2) == "training fails twice."
    assert dashboard.inject("deployment") == "deployment fails every time."
    wait_for(lambda: "deployment fails every time" in dashboard._breaks.state["fault"].value)
    assert dashboard.wrong_password() and password() == "wrong"
    wait_for(lambda: "wrong" in dashboard._breaks.state["password"].value)
    dashboard.right_password()
    assert password() == right
    dashboard.clear_fault()
    assert faults.read_fault() is None
    wait_for(lambda: "none" in dashboard._breaks.state["fault"].value)
    with pytest.raises(LabError, match="cannot fail"):
        dashboard.inject("everything")


def test_the_worker_is_encrypted_and_plain_again(dashboard: Dashboard) -> None:
    press(dashboard, "Encrypted worker")
    wait_for(lambda: "encrypted" in dashboard._breaks.state["worker"].value)
    assert dashboard.lab.encrypted
    press(dashboard, "Plain worker")
    wait_for(lambda: "plain" in dashboard._breaks.state["worker"].value)
    assert dashboard._problem.value == ""


def test_a_newer_lab_is_on_duty_until_the_page_takes_over(dashboard: Dashboard) -> None:
    up = Command("up")
    try:
        up.wait_for("ready")
        wait_for(lambda: "A newer lab" in text(dashboard._duty.widget.children[0]))
        assert dashboard._duty.widget.layout.display == ""
        press(dashboard, "Take over")
        up.wait_for("took over")
        wait_for(lambda: "is on duty" in text(dashboard._duty.widget.children[0]))
        assert dashboard.lab.duty.on
    finally:
        assert up.end() == 0


@pytest.fixture
def many(dashboard: Dashboard) -> Iterator[list[str]]:
    """Two hundred runs that wait for a worker."""
    ids = [f"mlops-20260101-000000-{n:03d}-many" for n in range(MANY)]

    async def start(client: Client) -> None:
        asked = PipelineInput("data/raw/many.csv")
        starts = [
            client.start_workflow("MLOpsWorkflow", asked, id=id, task_queue=NOBODY) for id in ids
        ]
        await asyncio.gather(*starts)

    async def end(client: Client) -> None:
        await asyncio.gather(*(client.get_workflow_handle(id).terminate() for id in ids))

    dashboard.lab.call(start)
    yield ids
    dashboard.lab.call(end)


def all_run(dashboard: Dashboard) -> bool:
    """Whether the list has all of them running: their ids had runs before, which it may show."""
    dashboard.tick()
    rows = [row for row in dashboard.rows if row.name == "many" and row.state == "running"]
    return len(rows) == MANY


def test_two_hundred_runs_cost_one_request_and_change_nothing_but_ages(
    many: list[str], quiet: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for(lambda: all_run(quiet))
    asked: list[Any] = []
    ask = quiet.lab.ask
    monkeypatch.setattr(quiet.lab, "ask", lambda make: asked.append(make) or ask(make))
    changes: list[Any] = []
    for widget in widgets(quiet.widget):
        widget.observe(changes.append, traitlets.All)
    started = time.monotonic()
    for _ in range(4):
        quiet.tick()
    seconds = (time.monotonic() - started) / 4
    print(f"a tick with {len(quiet.rows)} runs: {seconds:.3f} s")
    assert seconds < 1
    assert len(asked) == 4
    assert {change.name for change in changes} <= {"description"}
    without_age = [re.sub(r"\d+ s$", "", c.new) == re.sub(r"\d+ s$", "", c.old) for c in changes]
    assert all(without_age)


def test_the_list_is_narrowed(many: list[str], quiet: Dashboard) -> None:
    wait_for(lambda: all_run(quiet))
    quiet.filter("running", "-many")
    assert "The newest 10 of 200 shown" in quiet._list.summary.value
    assert len(quiet._list.box.children) == len(quiet._list.buttons) == 10
    quiet.filter("failed or stopped", "-many")
    assert "None to show" in quiet._list.summary.value
    assert quiet._list.box.children == ()
    quiet.filter()
    quiet._list.box.children[0].click()
    wait_for(lambda: quiet.run.id == quiet.rows[0].id)
    wait_for(lambda: quiet._list.box.children[0].description.startswith("▸"))


def test_a_press_opens_the_run_that_it_was_meant_for(quiet: Dashboard) -> None:
    """Runs arrive between the look at the list and the press."""
    quiet.tick()
    rows = quiet.rows
    button = quiet._list.box.children[2]
    newer = [replace(rows[0], id=f"mlops-newer-{n}", started=datetime.now(UTC)) for n in range(3)]
    quiet._list.show([*newer, *rows], "")
    assert quiet._list.box.children[5] is button
    button.click()
    wait_for(lambda: quiet.run.id == rows[2].id)
    quiet._list.show(rows, "")
    assert [b.tooltip for b in quiet._list.box.children] == [row.id for row in rows[:10]]


def test_a_run_that_has_ended_is_read_once_and_again_when_it_is_run_again(
    quiet: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    quiet.tick()
    row = next(row for row in quiet.rows if row.state == "completed")
    quiet.select(row.id)

    async def look(run: Any) -> bool:
        looks.append(run.id)
        return True

    monkeypatch.setattr(quiet, "_tick_run", look)
    watching = quiet.lab.task(lambda: Dashboard._watch_run(quiet, quiet.run))
    wait_for(lambda: looks)
    time.sleep(0.2)
    assert looks == [row.id]
    quiet.rows = [replace(row, started=datetime.now(UTC))]
    wait_for(lambda: len(looks) == 2)
    watching.cancel()


def test_an_old_alert_is_no_alert(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "ALERT_SECONDS", 0.5)
    choose(dashboard, "notes.txt", b"x")
    wait_for(lambda: "role='alert'" in dashboard._uploads.said.value)
    wait_for(lambda: "role='alert'" not in dashboard._uploads.said.value)
    assert re.search(r"\d\d:\d\d:\d\d .*not the plain name of a CSV", text(dashboard._uploads.said))


def test_a_lab_that_does_not_start_can_be_tried_again(servers: Path) -> None:
    def start(take_over: bool) -> Lab:
        raise LabError("POSTGRES_PORT is not usable")

    dashboard = Dashboard(start)
    try:
        assert "POSTGRES_PORT is not usable" in dashboard._problem.value
        assert dashboard._again.layout.display == ""
        with pytest.raises(LabError, match="not started"):
            dashboard.drop_sample("good.csv")
        dashboard._start = Lab.start
        dashboard._again.click()
        wait_for(lambda: dashboard.rows)
        assert dashboard._again.layout.display == "none"
    finally:
        dashboard.close()


def test_what_is_left_is_put_back_at_the_end(servers: Path) -> None:
    dashboard = Dashboard(Lab.start)
    right = password()
    dashboard.wrong_password()
    dashboard.inject("training")
    dashboard.stop("postgres")
    again = Dashboard(Lab.start)
    assert "closed" in dashboard._problem.value
    assert password() == right
    assert faults.read_fault() is None
    assert services.status()["postgres"]["running"]
    again.inject("training")
    stop_lab_alone()
    assert faults.read_fault() is None
    assert all(task.cancelled() for task in (*dashboard._tasks.values(), *again._tasks.values()))


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(0, "0 s"), (-5, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_age_in_words(seconds: int, says: str) -> None:
    assert runs.age(NOW - timedelta(seconds=seconds), NOW) == says


DONE, OTHERS = ["completed", "on prod"], "failed or stopped"


@pytest.mark.parametrize(
    ("state", "step", "accuracy", "outcome", "says", "kinds"),
    [
        ("running", "", None, "", "running", ["running"]),
        ("running", "model_training", None, "", "model training", ["running"]),
        ("running", "awaiting_prod_approval", 0.9, "", "waiting for approval", [runs.WAITING]),
        ("completed", "completed", 0.876, "", "completed, accuracy 0.88", ["completed"]),
        ("completed", "completed", None, "", "completed", ["completed"]),
        ("completed", "completed", 0.9, "on prod", "on prod, accuracy 0.90", DONE),
        ("failed", "model_training", None, "", "failed at model training", [OTHERS, "failed"]),
        ("canceled", "", None, "", "cancelled", [OTHERS, "cancelled"]),
        ("terminated", "", None, "", "terminated", [OTHERS, "terminated"]),
        ("timed_out", "", None, "", "timed out", [OTHERS, "timed out"]),
    ],
)
def test_a_row_in_words(
    state: str, step: str, accuracy: float | None, outcome: str, says: str, kinds: list[str]
) -> None:
    row = runs.Row("mlops-20261122-120000-000-a-b", state, step, NOW, accuracy, outcome=outcome)
    assert (row.name, row.words) == ("a-b", says)
    assert [chosen for chosen in runs.FILTERS if row.matches(chosen)] == ["all", *kinds]
    assert row.matches("all", " A-B ") and not row.matches("all", "c")
