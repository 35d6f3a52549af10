"""The picture that steps through a run: its steps, its words and its controls."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from lessons import tape
from lessons.steps import ACTIVITY, CLIENT, WORKFLOW, steps
from lessons.tape import Tape, draw
from temporalio.client import WorkflowHistory

# A real run: worker A stopped after the first activity, a signal came, and worker B went on.
TEA = Path(__file__).with_name("tea.json")


def history(change: Any = None) -> WorkflowHistory:
    """The run of tea, with its events changed on the way."""
    events = json.loads(TEA.read_text(encoding="utf-8"))["events"]
    for event in events:
        if change:
            change(event)
    return WorkflowHistory.from_json("tea", {"events": events})


def test_each_part_has_its_steps() -> None:
    parts = [(step.part, step.who, step.first, step.last) for step in steps(history())]
    assert parts == [
        (CLIENT, "client", 1, 1),
        (WORKFLOW, "worker A", 3, 5),
        (ACTIVITY, "worker A", 6, 7),
        (WORKFLOW, "worker A", 9, 11),
        (CLIENT, "client", 12, 12),
        (WORKFLOW, "worker B", 14, 17),
        (ACTIVITY, "worker B", 18, 19),
        (WORKFLOW, "worker B", 21, 23),
    ]


def test_only_a_worker_that_is_new_to_the_run_replays() -> None:
    assert [step.replayed for step in steps(history()) if step.replayed] == [11]

    def one_worker(event: dict[str, Any]) -> None:
        for said in event.values():
            if isinstance(said, dict) and said.get("identity") == "worker B":
                said["identity"] = "worker A"

    assert not any(step.replayed for step in steps(history(one_worker)))


def test_failed_and_retried_activities_say_so() -> None:
    def fail(event: dict[str, Any]) -> None:
        if event["eventId"] == "7":
            event["eventType"] = "EVENT_TYPE_ACTIVITY_TASK_FAILED"
            said = event.pop("activityTaskCompletedEventAttributes")
            del said["result"]
            event["activityTaskFailedEventAttributes"] = said
        if event["eventId"] == "18":
            event["activityTaskStartedEventAttributes"]["attempt"] = 3

    said = [step.says for step in steps(history(fail)) if step.part == ACTIVITY]
    assert said == [
        "runs the activity boil: it fails",
        "runs the activity pour: it answers at attempt 3",
    ]


def test_a_run_that_has_just_begun() -> None:
    begun = WorkflowHistory("tea", history().events[:2])
    assert str(Tape(begun)).splitlines()[1:] == ["1     1         client: starts Tea"]
    draw(steps(begun))


def test_the_text_tells_of_replay_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    Tape(history()).show()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 8
    assert lines[6] == (
        "6     14 to 17  worker B: runs the code from the top, replaying events 1 to 11; "
        "asks to cancel the timer, run pour"
    )


def test_the_picture_has_no_more_than_the_steps_so_far() -> None:
    def words(until: int | None) -> set[str]:
        (axes,) = draw(steps(history()), until).axes
        return {text.get_text() for text in axes.texts}

    assert {"boil", "pour", "worker B: events 1 to 11", "23"} <= words(None)
    assert "boil" in words(5) and not {"pour", "worker B: events 1 to 11", "13"} & words(5)


def test_the_controls_step_and_stay_between_the_ends() -> None:
    widget = Tape(history()).widget()
    _, picture, said, controls = widget.children
    back, onward, play, number, clock = controls.children
    assert "Step 1 of 8. client: starts Tea" in said.value
    back.click()
    assert number.value == 1
    for _ in range(5):
        onward.click()
    assert number.value == 6 and "Step 6 of 8. worker B" in said.value
    assert 'alt="The run up to step 6. worker B: runs the code from the top' in picture.value
    for _ in range(9):
        onward.click()
    assert number.value == 8 == clock.max
    play.click()  # from the end it begins anew
    assert number.value == 1 and clock.playing and play.description == "Pause"
    play.click()
    assert not clock.playing and play.description == "Play"


def test_what_stays_needs_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[set[str]] = []
    monkeypatch.setattr(tape, "watched", lambda: True)
    monkeypatch.setattr(tape, "show_widget", lambda *_: "an id")
    monkeypatch.setattr(tape, "leave", lambda id, kept: shown.append(set(kept)))
    stop = ExitStack()
    Tape(history()).show(stop)
    assert not shown
    stop.close()
    assert shown == [{"image/png", "text/plain"}]
