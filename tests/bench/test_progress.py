"""What is kept of a participant's way: by several kernels at once, and through broken files."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from labkit.bench import content, exercises, progress, record
from labkit.bench.cells import Mine, open_mine
from labkit.bench.content import Prediction
from labkit.bench.exercise import Exercise, expect, is_untouched, require, within
from labkit.bench.record import NOT_ATTEMPTED, NOT_YET, RIGHT
from labkit.bench.words import Off
from labkit.core.paths import LabError

STUB = "def double(x: int) -> int: ...\n"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def mine(lab: Path) -> Mine:
    return open_mine("test")


@pytest.fixture
def exercise(lab: Path, mine: Mine) -> Exercise:
    folder = lab / "00_double"
    folder.mkdir()
    (folder / "stub.py").write_text(STUB)
    (folder / "solution.py").write_text("def double(x: int) -> int:\n    return 2 * x\n")
    exercise = Exercise(task="Double it.", hints=["Twice.", "2 * x"], right="So it is.", seconds=1)
    exercise.place(folder, mine)

    @exercise.case("two is four")
    def two(mine: SimpleNamespace) -> None:
        expect(mine.double(2), 4)

    @exercise.case("one is two")
    def one(mine: SimpleNamespace) -> None:
        expect(mine.double(1), 2)

    return exercise


def check(exercise: Exercise, text: str, capsys: pytest.CaptureFixture[str]) -> str:
    exercise.modules.path("double").write_text(text)
    exercise.check()
    return capsys.readouterr().out


ANSWERS = {
    STUB: (NOT_ATTEMPTED, "change the cell that begins with %%mine double"),
    '# mine\ndef double(x):\n    """Says."""\n    pass\n': (NOT_ATTEMPTED, "change the cell"),
    "import os\n" + STUB: (NOT_ATTEMPTED, "change the cell"),
    "def double(x):\n    return 2 * x\n": (RIGHT, "So it is."),
    "def double(x):\n    return x + 2\n": (NOT_YET, "one is two: expected 2, got 3"),
    "def double(x):\n    return str(2 * x)\n": (NOT_YET, "expected 4, got '4', a str"),
    "def double(x):\n    return x == 2\n": (NOT_YET, "expected 4, got True, a bool"),
    "def double(x):\n    2 * x\n": (NOT_YET, "got None: does it return something?"),
    "def double(x):\n    return y\n": (
        NOT_YET,
        "NameError: name 'y' is not defined (line 2 of double.py: return y)",
    ),
    "def double(x):\n    raise SystemExit(3)\n": (NOT_YET, "SystemExit: 3 (line 2 of"),
    "def double(x):\n    while True:\n        pass\n": (NOT_YET, "had not returned after 1 s"),
    "def double(x:\n": (NOT_YET, "Line 1 of double.py cannot be read: '(' was never closed"),
    "import nothing_like_it\n\ndef double(x):\n    return 2\n": (
        NOT_YET,
        "double.py fails when it is imported: ModuleNotFoundError",
    ),
    "def doubel(x):\n    return 2 * x\n": (NOT_YET, "the cell defines no double"),
}


@pytest.mark.parametrize("text", ANSWERS, ids=lambda text: text.encode().hex()[-12:])
def test_three_outcomes_and_no_traceback(
    text: str, exercise: Exercise, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome, said = ANSWERS[text]
    shown = check(exercise, text, capsys)
    assert exercise.outcome == outcome and said in shown
    assert "Traceback" not in shown and "exercise.py" not in shown


def test_a_case_that_fails_stops_no_other(
    exercise: Exercise, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = check(exercise, "def double(x):\n    return 2\n", capsys)
    assert "✗  two is four: expected 4, got 2" in shown and "✓  one is two" in shown
    assert shown.endswith("Not yet right: 1 of 2 cases pass.\n")


def test_no_cell_yet(exercise: Exercise, capsys: pytest.CaptureFixture[str]) -> None:
    exercise.modules.path("double").unlink(missing_ok=True)
    exercise.check()
    assert "run the cell that begins with %%mine double" in capsys.readouterr().out


def test_a_shared_try_is_made_once_and_its_error_said_once(
    exercise: Exercise, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []

    @exercise.shared
    def answer(mine: SimpleNamespace) -> int:
        made.append(1)
        raise Off("nothing came")

    exercise.cases = [("first", answer), ("second", answer)]
    shown = check(exercise, "def double(x):\n    return 2\n", capsys)
    assert "first: nothing came\n" in shown and "second: as above\n" in shown
    check(exercise, "def double(x):\n    return 2\n", capsys)
    assert len(made) == 2, "once a check"


def test_hints_come_one_by_one_and_the_solution_can_be_pasted(
    exercise: Exercise, capsys: pytest.CaptureFixture[str]
) -> None:
    for said in ("Hint 1 of 2: Twice.", "Hint 2 of 2: 2 * x", "Hint 2 of 2: 2 * x"):
        exercise.hint()
        assert capsys.readouterr().out == f"{said}\n"
    exercise.solution()
    cell = capsys.readouterr().out
    assert cell.startswith("%%mine double\n")
    exercise.modules.keep("double", cell.split("\n", 1)[1])
    exercise.check()
    assert exercise.outcome == RIGHT
    assert record.read()["00_double"]["hints"] == 2
    assert record.read()["00_double"]["solution_seen"]
    exercise.stub()
    assert capsys.readouterr().out.endswith(f"%%mine double\n{STUB}")


def test_the_best_outcome_is_kept(exercise: Exercise, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("def double(x):\n    return 2 * x\n", "def double(x):\n    return 1\n", STUB):
        check(exercise, text, capsys)
    entry = record.read()["00_double"]
    assert (entry["outcome"], entry["tries"]) == (RIGHT, 2)


def test_two_kernels_write_at_once(lab: Path) -> None:
    code = (
        "from labkit.bench import record\n"
        "for i in range(40): record.change('00_x', lambda e: e.update(n=e.get('n', 0) + 1))"
    )
    kernels = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [kernel.wait(60) for kernel in kernels] == [0, 0]
    assert record.read() == {"00_x": {"n": 80}}
    assert {file.name for file in (lab / ".lab").iterdir()} <= {"progress.json", "progress.lock"}


@pytest.mark.parametrize("broken", ["{", "[1, 2]", "", '{"00_x": 3}'])
def test_a_broken_record_is_set_aside(
    broken: str, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = lab / ".lab" / "progress.json"
    file.parent.mkdir()
    file.write_text(broken)
    record.change("00_x", lambda entry: entry.update(hints=1))
    assert record.read() == {"00_x": {"hints": 1}}
    (aside,) = file.parent.glob("broken-*")
    assert aside.read_text() == broken and aside.name in capsys.readouterr().out
    assert progress()


def test_a_record_that_cannot_be_written_stops_nothing(
    exercise: Exercise, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab / ".lab").write_text("in the way")
    shown = check(exercise, "def double(x):\n    return 2 * x\n", capsys)
    assert "Right." in shown and "Your progress could not be kept" in shown
    exercise.hint()
    assert "Hint 1 of 2" in capsys.readouterr().out


def test_progress_shows_every_notebook(lab: Path) -> None:
    numbers = sorted({folder.name[:2] for folder in content.folders()})
    assert [line[:2] for line in progress().splitlines()] == numbers
    name = content.folders("00")[0].name
    before = progress().splitlines()[0]
    record.change(name, lambda entry: entry.update(outcome=RIGHT))
    after = progress().splitlines()[0]
    assert " 0 of " in before and " 1 of " in after and f"✓ {name[3:]}" in after


def test_a_notebooks_exercises_by_name(lab: Path) -> None:
    q = exercises("00")
    assert "hello" in dir(q) and q.hello is q.hello
    assert "hello" in repr(q) and NOT_ATTEMPTED in repr(q)
    with pytest.raises(AttributeError, match=r"has no exercise 'helo'\. It has .*hello"):
        _ = q.helo
    assert not hasattr(q, "_ipython_display_")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (3, "You said 3. It was 1: nothing failed\n"),
        (1, "You said 1, and so it was: nothing failed\n"),
        ("one", "You said one. It was 1: nothing failed\n"),
        (True, "You said True. It was 1: nothing failed\n"),
    ],
)
def test_a_prediction_is_kept_and_compared(
    said: object, shown: str, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prediction = Prediction("How many?", lambda run: (len(run), "nothing failed"))
    prediction.key = "00_attempts"
    prediction.compare("x")
    assert capsys.readouterr().out == "You had not predicted it. It was 1: nothing failed\n"
    prediction.predict()
    assert capsys.readouterr().out.startswith("How many? ")
    prediction.predict(said)
    assert capsys.readouterr().out == f"Kept: {said}.\n"
    prediction.compare("x")
    assert capsys.readouterr().out == shown
    assert json.loads((lab / ".lab/progress.json").read_text())["00_attempts"]["said"] == said
    with pytest.raises(LabError):
        prediction.predict([1])


def test_expect_and_require() -> None:
    expect(4, 4.0)
    expect([1], [1])
    for got, wanted in ((True, 1), (1, True), ("1", 1), (None, 1), (2, 1), ([1], (1,))):
        with pytest.raises(Off, match="expected"):
            expect(got, wanted)
    with pytest.raises(Off, match="mine"):
        require([], "mine")


def test_an_alarm_of_somebody_else_rings_all_the_same() -> None:
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    left = signal.setitimer(signal.ITIMER_REAL, 0.05)[0]
    try:
        with within(5):
            pass
        time.sleep(0.2)
        assert rung
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)


def test_untouched() -> None:
    two = "def a(): ...\n\n\ndef b(): ...\n"
    assert is_untouched(two, two)
    assert not is_untouched("def a():\n    return 1\n\n\ndef b(): ...\n", two)
    assert not is_untouched("policy = 1\n", "policy = None\n")
    assert not is_untouched("def f(:\n", STUB)
