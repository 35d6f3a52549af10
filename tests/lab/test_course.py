"""The course as a whole: tidy, progress, jump_to, validate, and cells that are run out of order."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from labkit import Lab, course, services
from labkit.bench import clean, record
from labkit.core.envfile import write_env
from labkit.core.settings import LabError, paths
from labkit.faults import fault_file, read_fault
from labkit.services.temporal import cli
from tests.conftest import at, enter
from tests.lab.test_lab import module_lab, small, stop_lab_alone

Out = pytest.CaptureFixture[str]
__all__ = ["module_lab"]
OVER = "because the lesson is over."


@pytest.fixture
def mine(module_lab: None, servers: Path, capsys: Out) -> Iterator[Lab]:
    """A lab on the shared servers, with what other tests have left put away."""
    lab = Lab.start()
    lab.tidy()
    capsys.readouterr()
    yield lab
    assert Lab.start() is lab


@pytest.fixture
def apart(servers_home: Path, home: Path) -> Iterator[Path]:
    """A home for another lab. Each lab ends while it is at home: it writes where it is."""
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, servers_home)
        stop_lab_alone()
    yield home
    if Lab._current:
        Lab._current.stop()


def open_runs(lab: Lab) -> list[str]:
    return [row.id for row in lab.call(course.list_rows) if row.state == "running"]


def test_tidy_ends_what_waits_and_puts_right_what_is_broken(
    mine: Lab, tmp_path: Path, capsys: Out
) -> None:
    waiting = [mine.drop(f"good-tidy-{n}.csv", small(tmp_path, rows=1000)) for n in range(2)]
    for run in waiting:
        run.follow(until="awaiting_prod_approval")
    copied = paths().raw / "good-by-hand.csv"
    before = set(open_runs(mine))
    shutil.copy(small(tmp_path, rows=1000), copied)
    services.stop("postgres")
    retrying = mine.drop("good-tidy-retrying.csv", small(tmp_path))
    retrying.wait_for_failures(1)
    (own,) = set(open_runs(mine)) - before - {retrying.id}
    process = mine.watcher_process()
    fault_file().write_text('{"simulate_failure": true, "activity": "training"}')
    files = sorted(paths().raw.iterdir())
    capsys.readouterr()
    mine.tidy()
    assert capsys.readouterr().out.splitlines() == [
        "training fails on purpose no more.",
        "postgres had been stopped, and run again.",
        "Ended: a watch process.",
        f"2 runs waited for approval: rejected, {OVER}",
        "1 run had not ended: cancelled.",
        "1 run of your own: left as it is.",
    ]
    assert open_runs(mine) == [own]
    for run in waiting:
        assert run.decisions()[0]["decided_by"] == "lab.tidy"
    assert read_fault() is None and not process.process.alive()
    assert services.status()["postgres"]["running"]
    assert sorted(paths().raw.iterdir()) == files
    mine.run(own).follow(until="awaiting_prod_approval")
    mine.run(own).reject()
    mine.run(own).follow()
    capsys.readouterr()
    mine.tidy()
    assert capsys.readouterr().out == "Nothing waits, and nothing is broken.\n"


def test_tidy_ends_what_cannot_cancel(mine: Lab, tmp_path: Path, capsys: Out) -> None:
    with mine.fault("training"):
        run = mine.drop("good-tidy-paused.csv", small(tmp_path))
        run.wait_for_failures(1)
        words = ["activity", "pause", "--workflow-id", run.id, "--activity-id", "train_model"]
        command = [str(cli()), *words, "--address", mine.duty.server]
        subprocess.run(command, check=True, capture_output=True)
    capsys.readouterr()
    mine.tidy()
    assert capsys.readouterr().out == "1 run could not be cancelled: terminated.\n"
    assert open_runs(mine) == []


def test_tidy_takes_an_encrypted_lab_back(mine: Lab, capsys: Out) -> None:
    mine.restart(encrypted=True)
    mine.tidy()
    assert capsys.readouterr().out == "The lab writes plain text again.\n"
    assert not mine.encrypted and mine.duty.on


def test_a_stopped_lab_says_so(apart: Path) -> None:
    lab = Lab.start()
    lab.stop()
    for call in (lab.tidy, lambda: lab.jump_to("07")):
        with pytest.raises(LabError, match="The lab is stopped"):
            call()


def test_progress_at_a_glance(home: Path, capsys: Out) -> None:
    record.change("03_gaps", lambda entry: entry.update(said=3, was=1))
    record.change("00_attempts", lambda entry: entry.update(said="once"))
    record.change("00_hello", lambda entry: entry.update(outcome=record.RIGHT))
    Lab.progress()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("00  1 of 3 right") and "✓ hello" in lines[0]
    assert lines[-2:] == [
        "00  predicted attempts: once. You have not compared it yet.",
        "03  predicted gaps: 3. It was 1.",
    ]


def test_jump_to_a_notebook(apart: Path, capsys: Out) -> None:
    write_env(LABKIT_SPEED="20")
    lab = Lab.start()
    lab.jump_to("01")
    assert capsys.readouterr().out.splitlines() == [
        "Nothing waits, and nothing is broken.",
        "Open 01-happy-path.ipynb, and run it from its first cell.",
    ]
    lab.jump_to("07")
    said = capsys.readouterr().out
    assert ": deployed to prod" in said and "quality gate: accuracy" in said
    assert said.endswith("Open 07-approval.ipynb, and run it from its first cell.\n")
    ended = sorted(row.status for row in lab.call(course.list_rows))
    assert ended == ["on prod", "stopped by the gate"]
    lab.jump_to("8")
    assert capsys.readouterr().out.splitlines() == [
        "Nothing waits, and nothing is broken.",
        "A model serves on prod already.",
        "Open 08-crash-recovery.ipynb, and run it from its first cell.",
    ]
    with pytest.raises(LabError, match=r"There is no notebook '77'\. There are 00, 01, "):
        lab.jump_to("77")
    lab.stop()


@pytest.fixture
def course_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Notebook 77, which runs, and 78, which does not."""
    for name, cells in {
        "77-fine": ["# Fine", "from labkit.core.settings import paths\n\nhome = paths().root"],
        "78-broken": ["# Broken", "a = 1", "## Divide", "a / 0  # boom", "never = 1"],
    }.items():
        make = {True: nbformat.v4.new_markdown_cell, False: nbformat.v4.new_code_cell}
        notebook = nbformat.v4.new_notebook(
            cells=[make[text.startswith("#")](text) for text in cells]
        )
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(clean, "NOTEBOOKS", tmp_path)
    return tmp_path


def test_validate_names_the_first_cell_that_fails(course_of_two: Path, capsys: Out) -> None:
    before = {path: path.read_bytes() for path in course_of_two.iterdir()}
    Lab.validate("77")
    first, last = capsys.readouterr().out.splitlines()
    assert first == "A copy of 77-fine.ipynb, as it is saved, runs in a lab of its own."
    assert last.startswith("77-fine: all of its cells run, in ")
    Lab.validate("78")
    assert capsys.readouterr().out.split("\n", 1)[1] == (
        '78-broken: cell 3, below "Divide", fails.\n    a / 0  # boom\n'
        "ZeroDivisionError: division by zero\n"
    )
    assert {path: path.read_bytes() for path in course_of_two.iterdir()} == before
    with pytest.raises(LabError, match=r"There is no notebook '79'\. There are 77, 78"):
        Lab.validate("79")


def run_cells(home: Path, *cells: str, **environment: str) -> list[str]:
    """What each cell shows in a real kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(it) for it in cells])
    client = NotebookClient(
        notebook, timeout=90, allow_errors=True, resources={"metadata": {"path": str(home)}}
    )
    client.execute(env=os.environ | at(home) | environment)
    return [
        "".join(it.get("text") or "\n".join(it.get("traceback", [])) for it in cell.outputs)
        for cell in notebook.cells
    ]


def test_validate_in_a_kernel(home: Path, course_of_two: Path) -> None:
    said = run_cells(
        home,
        "from pathlib import Path\nfrom labkit import Lab\nfrom labkit.bench import clean\n"
        f"clean.NOTEBOOKS = Path({json.dumps(str(course_of_two))})",
        "Lab.validate('77')",
        "Lab.validate('78')",
    )
    assert "all of its cells run" in said[1]
    assert "ZeroDivisionError" in said[2] and "Traceback" not in said[2]


def test_a_cell_that_is_run_out_of_order(home: Path) -> None:
    said = run_cells(
        home,
        "from labkit import Lab\nlab = Lab.start()",
        "run.follow()",
        "misspelt_by_me",
        "lab.run('x').follow(until='nowhere')",
        "lab.stop()",
        JPY_SESSION_NAME="somewhere/03-failure-injection.ipynb",
    )
    lines = said[1].splitlines()
    assert lines[0] == "run is made by another cell, which this kernel has not run yet:"
    assert lines[2].startswith("Run that one first, or in the menu: Run > Run All Above")
    assert len(lines) == 3
    assert "name 'misspelt_by_me' is not defined" in said[2]  # an error like any other
    assert "'nowhere' is not a step." in said[3] and "raise ValueError" not in said[3]
