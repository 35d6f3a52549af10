"""Right answers by another road than the solution, and wrong ones that look right at first."""

from pathlib import Path

import pytest

from labkit.bench.content import ROOT
from labkit.bench.record import NOT_YET, RIGHT
from tests.bench.conftest import Answered

ANSWERS = sorted((Path(__file__).parent / "other_answers").glob("*.py"))


@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.stem)
def test_another_answer(path: Path, answered: Answered, capsys: pytest.CaptureFixture[str]) -> None:
    name, kind = path.stem.split("-")
    exercise = answered(ROOT / name, "stub")
    exercise.modules.keep(exercise.name, path.read_text(encoding="utf-8"))
    exercise.check()
    said = capsys.readouterr().out
    print(said)
    assert exercise.outcome == (RIGHT if kind.startswith("right") else NOT_YET)
    assert "Traceback" not in said and 'File "' not in said
