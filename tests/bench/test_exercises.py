"""Every exercise five ways, on a real server: its stub, its solution and three wrong answers."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.bench.content import folders
from labkit.bench.exercise import top_names
from labkit.bench.record import NOT_ATTEMPTED, NOT_YET, RIGHT
from tests.bench.conftest import Answered

WRONG = ("wrong_1", "wrong_2", "wrong_3")
WANTED = {"stub": NOT_ATTEMPTED, "solution": RIGHT} | dict.fromkeys(WRONG, NOT_YET)
# What a participant waits, as a rule and at most.
RULE_SECONDS, MOST_SECONDS = 2, 5
IMPORT_SECONDS = 0.6
SAYS = re.compile(r'\A"""(.+?\.)\n\nThe check says: (.+)\n"""\n', re.S)


@pytest.fixture(params=folders(), ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.mark.parametrize("text", WANTED)
def test_an_answer_gets_its_outcome(
    folder: Path, text: str, answered: Answered, capsys: pytest.CaptureFixture[str]
) -> None:
    exercise = answered(folder, text)
    begun = time.monotonic()
    exercise.check()
    seconds = time.monotonic() - begun
    seconds /= slowness() if seconds > RULE_SECONDS else 1
    said = capsys.readouterr().out
    print(f"[{folder.name} {text} {seconds:.2f} s]\n{said}")
    assert exercise.outcome == WANTED[text]
    assert "Traceback" not in said and 'File "' not in said
    assert mistake(exercise.text(text)) in said
    assert seconds < MOST_SECONDS


def slowness() -> float:
    """How many times slower this machine is just now than when it is idle; 1 at least."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import temporalio.worker"], check=True)
    by_import = (time.monotonic() - begun) / IMPORT_SECONDS
    return max(1, by_import, os.getloadavg()[0] / (os.cpu_count() or 1))


def mistake(text: str) -> str:
    """What the check must say of a wrong answer; nothing for the others."""
    found = SAYS.match(text)
    return found[2] if found else ""


def test_there_is_all_of_it(folder: Path) -> None:
    names = {file.name for file in folder.iterdir() if file.suffix == ".py"}
    assert names == {"check.py", *(f"{text}.py" for text in WANTED)}
    wrong = [(folder / f"{text}.py").read_text(encoding="utf-8") for text in WRONG]
    assert all(SAYS.match(text) for text in wrong), "say what mistake it is, and what is said of it"
    assert len(set(wrong)) == len(wrong)
    stub, solution = (
        (folder / f"{text}.py").read_text(encoding="utf-8") for text in ("stub", "solution")
    )
    assert set(top_names(stub)) <= set(top_names(solution))


def test_it_says_enough(folder: Path, answered: Answered) -> None:
    exercise = answered(folder, "stub")
    assert exercise.task.endswith(".")
    assert len(exercise.hints) >= 2
    assert len(exercise.cases) >= 2
    assert len({name for name, _ in exercise.cases}) == len(exercise.cases)
