"""The dashboard without a browser: what its buttons do as calls, and what it costs to look at."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
import traitlets
from temporalio.client import Client

from labkit import Lab, faults, services
from labkit.ask import runs
from labkit.core.settings import LabError, read_env
from labkit.pipeline.messages import PipelineInput
from labkit.views import dashboard as module
from labkit.views.dashboard import Dashboard
from tests.conftest import enter
from tests.lab.test_lab import small, stop_lab_alone

LONG = 60
NOBODY = "a queue that nobody polls"
MANY = 200
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


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
    """The dashboard while its own threads rest, so that the test alone looks."""
    dashboard._restarting.set()
    time.sleep(0.2)
    with dashboard._reading:
        pass
    yield dashboard
    dashboard._restarting.clear()


def wait_for(what: Callable[[], Any], seconds: float = LONG) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
    return found


def choose(dashboard: Dashboard, name: str, content: bytes) -> None:
    """What the browser sends when a file was chosen."""
    file = {"name": name, "type": "text/csv", "size": len(content), "last_modified": NOW}
    dashboard._upload.value = (file | {"content": memoryview(content)},)


def text(widget: ipywidgets.HTML) -> str:
    return re.sub(r"<[^>]+>", " ", widget.value)


def widgets(parent: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    children = getattr(parent, "children", ())
    return [parent, *(found for child in children for found in widgets(child))]


def button(dashboard: Dashboard, label: str) -> ipywidgets.Button:
    found = [w for w in widgets(dashboard.widget) if getattr(w, "description", "") == label]
    assert len(found) == 1, label
    return found[0]


def test_an_upload_is_followed_and_approved(dashboard: Dashboard, tmp_path: Path) -> None:
    content = small(tmp_path, rows=4177).read_bytes()
    choose(dashboard, "good-dash.csv", content)
    wait_for(lambda: "Started mlops-" in dashboard._upload_said.value)
    assert dashboard.run and dashboard.run.id.endswith("-good-dash")
    wait_for(lambda: "5 of 7 steps done" in dashboard._progress.value)
    wait_for(lambda: "alt='Timeline" in dashboard._picture.value)
    assert "train_model" in dashboard._picture.value
    wait_for(lambda: "waiting for approval" in dashboard._buttons[0].description)
    assert "Taken." in dashboard.approve("Ada")
    wait_for(lambda: "completed: deployed to prod" in dashboard._progress.value)
    wait_for(lambda: "completed, accuracy 0.88" in dashboard._buttons[0].description)
    assert dashboard.run.status().decision.by == "Ada"


def test_a_run_that_the_gate_stops_says_why(dashboard: Dashboard) -> None:
    button(dashboard, "Drop a bad sample").click()
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
        wait_for(lambda says=says: says in dashboard._upload_said.value)
        assert "role='alert'" in dashboard._upload_said.value
        wait_for(lambda: dashboard._upload.value == ())


def test_an_outage_is_seen_with_its_attempts_and_ends(dashboard: Dashboard, tmp_path: Path) -> None:
    button(dashboard, "Stop PostgreSQL").click()
    wait_for(lambda: "stopped" in dashboard._state["postgres"].value)
    dashboard.upload("good-outage.csv", small(tmp_path).read_bytes())
    wait_for(lambda: re.search(r"attempt \d in \d s", dashboard._progress.value))
    button(dashboard, "Start PostgreSQL").click()
    wait_for(lambda: "running" in dashboard._state["postgres"].value)
    wait_for(lambda: "experiment_tracking" in dashboard.run.status().completed_steps)
    wait_for(lambda: not re.search(r"attempt \d", dashboard._progress.value))


def test_the_temporal_server_goes_and_comes_back(dashboard: Dashboard) -> None:
    before = dashboard.rows
    dashboard.stop("temporal")
    wait_for(lambda: "does not answer" in dashboard._problem.value, seconds=5)
    assert dashboard.rows == before
    dashboard.start("temporal")
    wait_for(lambda: dashboard._problem.value == "")


def test_faults_and_passwords_are_put_back(dashboard: Dashboard) -> None:
    right = read_env()["POSTGRES_PASSWORD"]
    assert dashboard.inject("training", times=2) == "training fails twice."
    assert dashboard.inject("deployment") == "deployment fails every time."
    wait_for(lambda: "deployment fails every time" in dashboard._state["fault"].value)
    assert dashboard.wrong_password() and read_env()["POSTGRES_PASSWORD"] == "wrong"
    wait_for(lambda: "wrong" in dashboard._state["password"].value)
    dashboard.right_password()
    assert read_env()["POSTGRES_PASSWORD"] == right
    dashboard.clear_fault()
    assert faults.read_fault() is None
    wait_for(lambda: "none" in dashboard._state["fault"].value)
    with pytest.raises(LabError, match="cannot fail"):
        dashboard.inject("everything")


def test_the_worker_is_encrypted_and_plain_again(dashboard: Dashboard) -> None:
    button(dashboard, "Encrypted worker").click()
    wait_for(lambda: "encrypted" in dashboard._state["worker"].value)
    assert dashboard.lab.encrypted
    button(dashboard, "Plain worker").click()
    wait_for(lambda: "plain" in dashboard._state["worker"].value)
    assert dashboard._problem.value == ""


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

    dashboard.lab._call(start)
    yield ids
    dashboard.lab._call(end)


def test_two_hundred_runs_cost_one_request_and_change_nothing_but_ages(
    many: list[str], quiet: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for(lambda: quiet.tick() or sum(row.name == "many" for row in quiet.rows) == MANY)
    calls: list[Any] = []
    call = quiet.lab._call
    monkeypatch.setattr(quiet.lab, "_call", lambda make: calls.append(make) or call(make))
    changes: list[Any] = []
    for widget in widgets(quiet.widget):
        widget.observe(changes.append, traitlets.All)
    started = time.monotonic()
    for _ in range(4):
        quiet.tick()
        quiet.tick_run()
    seconds = (time.monotonic() - started) / 4
    print(f"a tick with {len(quiet.rows)} runs: {seconds:.3f} s")
    assert seconds < 1
    assert len(calls) == 4
    assert {change.name for change in changes} <= {"description"}
    without_age = [re.sub(r"\d+ s$", "", c.new) == re.sub(r"\d+ s$", "", c.old) for c in changes]
    assert all(without_age)


def test_the_list_is_narrowed_and_turned(many: list[str], quiet: Dashboard) -> None:
    wait_for(lambda: quiet.tick() or sum(row.name == "many" for row in quiet.rows) == MANY)
    quiet.filter("running", "-many")
    assert "1 to 8 of 200 shown" in quiet._summary.value
    assert quiet._newer.disabled and not quiet._older.disabled
    quiet.turn(1000)
    assert "193 to 200 of 200 shown" in quiet._summary.value
    assert quiet._older.disabled
    quiet.turn(-1000)
    quiet.filter("failed or stopped", "-many")
    assert "None to show" in quiet._summary.value
    assert quiet._list.children == ()
    quiet.filter()
    quiet._buttons[0].click()
    assert quiet.run.id == quiet.rows[0].id
    assert quiet._buttons[0].description.startswith("▸")


def test_a_run_that_has_ended_is_read_once(
    quiet: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet.tick()
    quiet.select(next(row.id for row in quiet.rows if row.state == "completed"))
    quiet.tick_run()
    assert "completed" in quiet._progress.value
    monkeypatch.setattr(quiet.lab, "_call", lambda _: pytest.fail("it was read again"))
    quiet.tick_run()


def test_a_lab_that_does_not_start_can_be_tried_again(servers: Path) -> None:
    def start() -> Lab:
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
    right = read_env()["POSTGRES_PASSWORD"]
    dashboard.wrong_password()
    dashboard.inject("training")
    dashboard.stop("postgres")
    again = Dashboard(Lab.start)
    assert "closed" in dashboard._problem.value
    assert read_env()["POSTGRES_PASSWORD"] == right
    assert faults.read_fault() is None
    assert services.status()["postgres"]["running"]
    again.inject("training")
    stop_lab_alone()
    assert faults.read_fault() is None
    wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith(module.THREAD)])


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(0, "0 s"), (-5, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_age_in_words(seconds: int, says: str) -> None:
    assert runs.age(NOW - timedelta(seconds=seconds), NOW) == says


@pytest.mark.parametrize(
    ("state", "step", "accuracy", "says", "kind"),
    [
        ("running", "", None, "running", "running"),
        ("running", "model_training", None, "model training", "running"),
        ("running", "awaiting_prod_approval", 0.9, "waiting for approval", runs.WAITING),
        ("completed", "completed", 0.876, "completed, accuracy 0.88", "completed"),
        ("completed", "completed", None, "completed", "completed"),
        ("failed", "experiment_tracking", 0.9, "failed at experiment tracking", runs.FILTERS[-1]),
        ("terminated", "", None, "terminated", runs.FILTERS[-1]),
        ("timed_out", "", None, "timed out", runs.FILTERS[-1]),
    ],
)
def test_a_row_in_words(
    state: str, step: str, accuracy: float | None, says: str, kind: str
) -> None:
    row = runs.Row("mlops-20261122-120000-000-a-b", state, step, NOW, accuracy)
    assert (row.name, row.words) == ("a-b", says)
    assert [chosen for chosen in runs.FILTERS if row.matches(chosen)] == ["all", kind]
    assert row.matches("all", " A-B ") and not row.matches("all", "c")
