"""What a participant sees and proves: the ledger, the timeline, the proofs, the buttons."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from matplotlib import colors
from matplotlib.figure import Figure
from matplotlib.text import Text
from temporalio.client import WorkflowHistory

from labkit import Lab, services
from labkit.ask.history import prove, timers
from labkit.core.journal import Attempt, attempts_of
from labkit.core.settings import REPOSITORY, LabError
from labkit.views import timeline
from labkit.views.buttons import BUSY, row_of_buttons
from labkit.views.timeline import LOOKS, Bar
from tests.failures.conftest import SPEED, Drop

SMALLEST = 11


def texts(figure: Figure) -> list[Text]:
    """Every text that the reader sees, drawn, so that ticks have their labels."""
    figure.draw_without_rendering()
    return [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]


def attempts(number: int, seconds: float = 1.0, gap: float = 2.0) -> list[Bar]:
    """An activity that fails until its last attempt."""
    return [
        Bar("train_model", n * (seconds + gap), n * (seconds + gap) + seconds, look, n + 1)
        for n, look in enumerate(["failed"] * (number - 1) + ["completed"])
    ]


WAIT = [Bar("approval", 3, 90 * 86400, "waiting for a human")]


@pytest.mark.parametrize(
    "bars",
    [[], attempts(1), attempts(8), attempts(40), attempts(1) + WAIT, WAIT],
    ids=["nothing yet", "one", "eight", "forty", "ninety days", "a wait alone"],
)
def test_a_picture_that_can_be_read(bars: list[Bar]) -> None:
    figure = timeline.draw(bars, "mlops-x")
    seen = texts(figure)
    assert min(text.get_fontsize() for text in seen) >= SMALLEST
    words = [text.get_text() for text in seen]
    assert {bar.look for bar in bars} <= set(words)  # the legend says each look in words
    (axes,) = figure.axes
    assert len(axes.patches) == len(bars)
    width = axes.get_xlim()[1]
    assert all(patch.get_width() >= 0.003 * width for patch in axes.patches)
    labels = [t for t in axes.texts if t.get_text().endswith(" s")]
    assert len(labels) == (7 if len(bars) == 8 else 0)  # forty of them would hide each other
    assert not overlapping(figure, labels)
    if len(bars) == 40:
        assert "train_model\n(tried 40 times)" in words


def overlapping(figure: Figure, labels: list[Text]) -> bool:
    boxes = [text.get_window_extent() for text in labels]
    return any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_a_long_wait_leaves_room_for_the_rest() -> None:
    (axes,) = timeline.draw(attempts(1) + WAIT, "mlops-x").axes
    work, wait = (patch.get_width() for patch in axes.patches)
    assert wait < 4 * work


AFTER = [Bar("record_approval", 90 * 86400, 90 * 86400 + 0.4, "completed", 1)]
FORTY = [Bar("approval", 3, 43, "waiting for a human"), Bar("deploy", 43, 47, "completed", 1)]


@pytest.mark.parametrize(
    ("bars", "length", "ticks"),
    [
        (attempts(1) + WAIT + AFTER, "90 days", {0, 1, 2, 3}),
        (attempts(1) + FORTY, "40 s", {0, 1, 2, 3, 44, 46}),
    ],
    ids=["ninety days", "forty seconds"],
)
def test_a_shortened_wait_breaks_the_axis(bars: list[Bar], length: str, ticks: set[int]) -> None:
    """It says how long it was, and no tick is inside of it or claims to be a time near by."""
    figure = timeline.draw(bars, "mlops-x")
    seen = texts(figure)
    (axes,) = figure.axes
    (wait,) = (patch for patch in axes.patches if patch.get_hatch() == "oo")
    begin, end = wait.get_x(), wait.get_x() + wait.get_width()
    shown = dict(zip(axes.get_xticks(), axes.get_xticklabels(), strict=True))
    assert not [x for x in shown if begin + 1e-6 < x < end - 1e-6]
    assert ticks <= {float(label.get_text()) for label in shown.values()}
    assert all(float(label.get_text()) < 100 for label in shown.values())
    assert not overlapping(figure, list(shown.values()))
    (label,) = (text for text in seen if text.get_text() == length)
    assert begin < label.get_position()[0] < end
    strokes = [line for line in axes.lines if line.get_markersize() > 10]
    assert [begin < line.get_xdata()[0] < end for line in strokes] == [True, True]


def test_a_short_wait_is_as_long_as_it_was() -> None:
    bars = [*attempts(4), Bar("approval", 10, 12, "waiting for a human")]
    (axes,) = timeline.draw(bars, "mlops-x").axes
    assert [float(t.get_text()) for t in axes.get_xticklabels()] == [0, 2, 4, 6, 8, 10, 12]
    assert not [line for line in axes.lines if line.get_markersize() > 10]


def test_looks_differ_in_grey_and_in_pattern() -> None:
    def luminance(color: str) -> float:
        rgb = colors.to_rgb(color)
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert len({look["hatch"] for look in LOOKS.values()}) == len(LOOKS)
    light = {name: luminance(look["facecolor"]) for name, look in LOOKS.items()}
    contrast = {
        name: (light[name] + 0.05) / (light["completed"] + 0.05)
        for name in LOOKS
        if name != "completed"
    }
    assert min(contrast.values()) > 3, contrast  # as for graphics in WCAG 2
    assert len({round(value, 2) for value in light.values()}) == len(LOOKS)


def test_the_table_says_the_same() -> None:
    assert timeline.table(attempts(2)).splitlines() == [
        "what                    attempt  outcome                  after      took   gap before",
        "train_model             1        failed                  0.00 s    1.00 s",
        "train_model             2        completed               3.00 s    1.00 s       2.00 s",
    ]
    assert len(timeline.table([]).splitlines()) == 1


def test_a_run_from_its_first_moment_to_long_after_its_end(drop: Drop, mine: Lab) -> None:
    run = drop("good-seen.csv", rows=4000)
    run.timeline()  # whatever is there so far
    run.follow(until="model_training")
    while not [a for a in attempts_of(run.id) if a.activity_id == "train_model"]:
        time.sleep(0.01)
    running = run._bars()[-1]
    assert (running.row, running.look) == ("train_model", "running")
    later = timeline.bars(run.history(), attempts_of(run.id), now(seconds=60))[-1]
    assert later.end == pytest.approx(running.end + 60, abs=5)
    run.follow(until="awaiting_prod_approval")
    waiting = run._bars()[-1]
    assert (waiting.row, waiting.look) == ("approval", "waiting for a human")
    run.approve()
    run.follow()
    ended = timeline.bars(run.history(), attempts_of(run.id), now(seconds=3600))
    assert [bar.row for bar in ended] == [
        *("preprocess_data", "train_model", "log_experiment", "assess_model_quality"),
        *("deploy_to_dev", "approval", "record_approval", "deploy_to_prod"),
    ]
    assert ended[-1].end < 60
    without = timeline.bars(run.history(), [], now())  # a worker elsewhere: the history alone
    assert [(b.row, b.look) for b in without] == [(b.row, b.look) for b in ended]
    for one, other in zip(without, ended, strict=True):
        assert one.start == pytest.approx(other.start, abs=0.3)
        assert one.end == pytest.approx(other.end, abs=0.3)


@pytest.mark.parametrize(
    ("kind", "waits"), [("asked-anew", 1), ("waiting", 1), ("rejected", 1), ("gate-failed", 0)]
)
def test_only_a_human_is_waited_for_as_a_human(kind: str, waits: int) -> None:
    """The timer between two askings is the workflow's own patience."""
    [file] = (REPOSITORY / "tests/workflow/histories/0.1.0").glob(f"{kind}.json")
    recorded = WorkflowHistory.from_json(kind, file.read_text())
    drawn = timeline.bars(recorded, [], datetime.now(UTC))
    assert [bar.row for bar in drawn if bar.look == "waiting for a human"] == ["approval"] * waits
    if kind == "asked-anew":
        assert len(timers(recorded)) > waits


def test_a_back_off_that_still_runs_is_drawn_until_now() -> None:
    [file] = (REPOSITORY / "tests/workflow/histories/0.1.0").glob("waiting.json")
    events = list(WorkflowHistory.from_json("x", file.read_text()).events)
    kinds = [event.WhichOneof("attributes") for event in events]
    asked = kinds.index("activity_task_scheduled_event_attributes")
    history = WorkflowHistory("x", events[: asked + 1])
    begin = events[asked].event_time.ToDatetime(UTC)
    id = events[asked].activity_task_scheduled_event_attributes.activity_id
    failed = Attempt(id, 1, 7, begin, begin + timedelta(seconds=1), "failed")
    first, gap = timeline.bars(history, [failed], begin + timedelta(seconds=6))
    assert (first.look, gap.look) == ("failed", timeline.BACK_OFF)
    assert gap.end - gap.start == pytest.approx(5) and gap.start == first.end
    assert "back-off, still running" in timeline.table([first, gap])
    timeline.draw([first, gap], "x")
    again = replace(failed, number=2, outcome="running", ended=None)
    assert len(timeline.bars(history, [failed, again], begin + timedelta(seconds=6))) == 2


def test_a_wait_that_was_terminated_stays_as_long_as_it_was(drop: Drop, mine: Lab) -> None:
    run = drop("good-ended.csv")
    run.follow(until="awaiting_prod_approval")
    mine.call(lambda client: client.get_workflow_handle(run.id).terminate())
    (*_, wait) = timeline.bars(run.history(), attempts_of(run.id), now(seconds=3600))
    assert wait.look == "waiting for a human"
    assert wait.end - wait.start < 60


def now(seconds: float = 0) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_proofs(drop: Drop, mine: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    gaps = [1 / SPEED, 2 / SPEED]
    with mine.fault("data_processing", times=2):
        run = drop("good-proved.csv")
        run.follow(until="model_training")
    capsys.readouterr()
    run.prove("preprocess_data", attempts=3, gaps=gaps)
    assert capsys.readouterr().out == (
        "Proved: preprocess_data was asked for once, tried 3 times, and completed; the ledger says "
        "the same. Its gaps were 0.05 s, 0.1 s, as promised.\n"
    )
    for claim, says in (
        ({"attempts": 2}, "completed at attempt 3, not 2"),
        ({"attempts": 3, "outcome": "failed"}, "completed at attempt 3"),
        ({"attempts": 3, "gaps": [1, 2]}, r"a gap of 0\.\d+ s, where 1 s was promised"),
        ({"attempts": 3, "gaps": gaps[:1]}, "2 gaps, not 1"),
    ):
        with pytest.raises(AssertionError, match=says):
            run.prove("preprocess_data", **claim)
    with pytest.raises(AssertionError, match="asked for 0 times"):
        run.prove("deploy_to_prod")


@pytest.mark.parametrize(("gap", "fits"), [(1.8, False), (1.96, True), (3.3, True), (3.5, False)])
def test_a_gap_may_be_a_little_longer(drop: Drop, gap: float, fits: bool) -> None:
    run = drop("good-gap.csv")
    run.follow(until="model_training")
    start = datetime.now(UTC)
    ends = [start + timedelta(seconds=s) for s in (1, 1 + gap, 2 + gap)]
    ledger = [
        Attempt("preprocess_data", 1, 1, start, ends[0], "failed"),
        Attempt("preprocess_data", 2, 1, ends[1], ends[2], "completed"),
    ]
    if fits:
        assert "as promised" in prove(run.history(), ledger, "preprocess_data", gaps=[2])
    else:
        with pytest.raises(AssertionError, match="where 2 s was promised"):
            prove(run.history(), ledger, "preprocess_data", gaps=[2])


def test_an_attempt_that_died_with_its_worker(mine: Lab, drop: Drop) -> None:
    assert Lab.start(worker=False) is mine
    with subprocess.Popen(
        [sys.executable, "-m", "labkit", "worker"], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout and worker.stdout.readline() == "ready\n"
        run = drop("good-crash.csv", rows=4177)
        while not [a for a in attempts_of(run.id) if a.activity_id == "train_model"]:
            time.sleep(0.01)
        worker.kill()
    Lab.start()
    run.follow(until="awaiting_prod_approval")
    mine_and_theirs = [a for a in attempts_of(run.id) if a.activity_id == "train_model"]
    assert [(a.number, a.outcome, a.pid) for a in mine_and_theirs] == [
        (1, "lost", worker.pid),
        (2, "completed", os.getpid()),
    ]
    assert mine_and_theirs[0].ended is None and mine_and_theirs[0].seconds is None
    lost, second = [bar for bar in run._bars() if bar.row == "train_model"]
    assert (lost.look, second.look) == ("lost", "completed")
    assert lost.end == second.start
    started = [a.started for a in attempts_of(run.id)]
    assert started == sorted(started)
    run.prove("train_model", attempts=2)


def test_buttons_do_what_they_say(mine: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(
        "labkit.handle.show_widget", lambda *given, calls: shown.extend([*given, calls])
    )
    mine.postgres.buttons()
    _, stop, start, said = shown[0].children
    assert shown[-1] == "lab.postgres.stop(), lab.postgres.start()"
    assert [stop.description, start.description] == ["Stop postgres", "Start postgres"]
    stop.click()
    assert "postgres is stopped." in said.value
    assert not services.status()["postgres"]["running"]
    start.click()
    assert "postgres runs at 127.0.0.1:" in said.value
    assert services.status()["postgres"]["running"]
    assert not stop.disabled and not start.disabled


@pytest.mark.parametrize("error", [LabError, RuntimeError])
def test_a_button_that_fails_says_so(error: type) -> None:
    seen: list[str] = []

    def fail() -> None:
        seen.append(said.value)
        other.click()  # while one is under way, a press is nothing
        assert BUSY in one._dom_classes and BUSY in other._dom_classes
        raise error("<b>no</b>")

    actions = {"Break": fail, "Mend": lambda: seen.append("mended")}
    one, other, said = row_of_buttons("it", actions).children
    one.click()
    assert len(seen) == 1 and "under way" in seen[0]
    assert "It did not work: &lt;b&gt;no&lt;/b&gt;" in said.value
    assert "role='status'" in said.value
    assert not (one.disabled or other.disabled)  # the keyboard's focus stays where it was
    assert BUSY not in one._dom_classes and BUSY not in other._dom_classes
    other.click()
    assert seen[1:] == ["mended"]


def test_a_button_without_a_lab_says_so() -> None:
    def stopped(action: object) -> Any:
        raise LabError("The lab is stopped.")

    one, said = row_of_buttons("it", {"Break": print}, stopped).children
    for _ in range(2):
        one.click()
        assert "It did not work: The lab is stopped." in said.value
