"""``%%mine`` in a plain IPython shell: a cell is a module, and every trap of that is avoided."""

import importlib
import os
import py_compile
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from labkit.bench import cells, exercises
from labkit.bench.cells import Mine, notebook_name, open_mine, register
from labkit.core.paths import REPOSITORY, LabError, paths


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty lab without a server; what a test imports is forgotten again."""
    for name in ("JPY_SESSION_NAME", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(cells, "_open", {})
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if cells.is_participants(getattr(module, "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def shell(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(lab / "ipython"))
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = InteractiveShell.instance(config=config)
    register(open_mine("00-start-here"))
    yield shell
    InteractiveShell.clear_instance()


@pytest.fixture
def mine(shell: InteractiveShell) -> Mine:
    return open_mine("00-start-here")


def run(shell: InteractiveShell, cell: str) -> BaseException | None:
    return shell.run_cell(cell).error_in_exec


def test_a_cell_is_a_module_and_prints_nothing(
    shell: InteractiveShell, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(shell, "%%mine hello\nimport json\n\n\ndef say() -> str:\n    return 'hello'\n") is None
    )
    file = lab / "notebooks" / "mine" / "00-start-here" / "hello.py"
    assert file.read_text().splitlines()[0] == "# %%mine hello"
    assert shell.user_ns["say"]() == "hello" and "json" in shell.user_ns
    assert shell.user_ns["say"].__code__.co_firstlineno == 5  # as in the cell
    assert run(shell, "from hello import say\nassert say() == 'hello'") is None
    assert capsys.readouterr().out == ""


def test_an_edit_of_the_same_length_within_a_second_counts(shell: InteractiveShell) -> None:
    """Python would take the compiled code of the former text for fresh."""
    for i in range(6):
        run(shell, f"%%mine number\nVALUE = {i}\n")
        assert shell.user_ns["VALUE"] == i
        code = "import number; print(number.VALUE)"
        command = [sys.executable, "-c", code]
        paths_of = {"PYTHONPATH": str(Path(sys.modules["number"].__file__ or "").parent)}
        if i % 3 == 2:
            said = subprocess.run(
                command, env=os.environ | paths_of, capture_output=True, text=True
            )
            assert said.stdout.strip() == str(i), said.stderr


def test_an_edit_in_an_editor_counts_whatever_was_compiled(mine: Mine) -> None:
    path = mine.path("number")
    mine.keep("number", "VALUE = 1\n")
    stat = path.stat()
    path.write_text(path.read_text().replace("VALUE = 1", "VALUE = 2"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))  # within the same second
    module = mine.current("number")
    assert module is not None and module.VALUE == 2


def test_compiled_code_of_another_text_is_not_believed(mine: Mine) -> None:
    """A worker process compiled the text that an editor saved a moment later with the same size."""
    mine.keep("number", "VALUE = 1\n")
    path = mine.path("number")
    py_compile.compile(str(path))
    moment = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace("1", "2"))
    os.utime(path, ns=(moment, moment + 1))
    cells.refresh()
    assert sys.modules["number"].VALUE == 2


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("def f(:\n    pass\n", "Line 2 of this cell cannot be read: invalid syntax"),
        ("x = 1\nfor\n", "Line 3 of this cell cannot be read: invalid syntax"),
        ("await f()\n", "'await' outside function"),
        ("x = '\0'\n", "cannot be read"),
    ],
)
def test_what_is_not_python_is_one_sentence(
    cell: str, said: str, shell: InteractiveShell, mine: Mine, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "%%mine broken\nx = 1\n")
    before = mine.path("broken").read_text()
    error = run(shell, f"%%mine broken\n{cell}") if "\0" not in cell else None
    if error is None:
        with pytest.raises(LabError, match=said):
            mine.keep("broken", cell)
    else:
        assert isinstance(error, LabError)
        shown = capsys.readouterr().out
        assert said in shown and "Traceback" not in shown and "cells.py" not in shown
    assert mine.path("broken").read_text() == before, "a worker may be reading it"


def test_an_error_while_importing_shows_the_participants_lines(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(run(shell, "%%mine fails\n\ndef f():\n    return 1 / 0\n\nf()\n"), Exception)
    shown = capsys.readouterr().out
    assert "ZeroDivisionError" in shown and "return 1 / 0" in shown and "fails.py" in shown
    assert "cells.py" not in shown and "importlib" not in shown


def test_a_cell_that_fails_leaves_the_former_module(shell: InteractiveShell) -> None:
    run(shell, "%%mine kept\nx = 1\n")
    run(shell, "%%mine kept\nx = 1 / 0\n")
    assert sys.modules["kept"].x == 1


@pytest.mark.parametrize("name", ["json", "sandbox-1", "", "class", "print", "pandas", "labkit"])
def test_names_that_cannot_be_are_refused(name: str, mine: Mine) -> None:
    with pytest.raises(LabError, match=r"such as my_|Name the file"):
        mine.keep(name, "x = 1\n")
    assert not list(mine.folder.glob("*.py"))


def test_what_imports_a_cell_is_imported_again_however_far(shell: InteractiveShell) -> None:
    run(shell, "%%mine first\ndef f():\n    return 1\n")
    run(shell, "%%mine second\nfrom first import f\n\n\ndef g():\n    return f() + 10\n")
    run(shell, "%%mine third\nimport second\n\n\ndef h():\n    return second.g() + 100\n")
    run(shell, "%%mine alone\nFIRST = object()\n")
    before = sys.modules["alone"]
    run(shell, "%%mine first\ndef f():\n    return 2\n")
    assert shell.user_ns["g"]() == 12 and shell.user_ns["h"]() == 112
    assert sys.modules["alone"] is before


def test_the_kernels_notebook_names_the_folder(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert notebook_name("07") == "07"
    monkeypatch.setenv("JPY_SESSION_NAME", "console-1-0a8e")
    assert notebook_name("07") == "07"
    monkeypatch.setenv("JPY_SESSION_NAME", "/lab/notebooks/02 my copy.ipynb")
    assert notebook_name("07") == "02 my copy"
    assert open_mine("07").folder.name == "02_my_copy"
    shell.user_ns["__vsc_ipynb_file__"] = "/lab/notebooks/03-crash.ipynb"
    assert notebook_name("07") == "03-crash"


def test_two_kernels_of_one_notebook_have_two_folders(mine: Mine) -> None:
    code = (
        "from labkit.bench.cells import open_mine; one = open_mine('00-start-here');"
        "one.keep('where', 'HERE = 2'); print(one.folder.name)"
    )
    mine.keep("where", "HERE = 1\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, folder = done.stdout.splitlines()
    assert folder == "00-start-here_2"
    assert said.startswith("Another kernel of this notebook is running.")
    assert (paths().root / "notebooks/mine" / folder / "where.py").exists()
    assert mine.current("where").HERE == 1  # type: ignore[union-attr]
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[1] == folder, "the folder of a kernel that has ended is free"


def test_another_notebooks_modules_do_not_shine_through(mine: Mine) -> None:
    mine.keep("thing", "VALUE = 1\n")
    other = open_mine("01-happy-path")
    assert other.keep("thing", "VALUE = 2\n").VALUE == 2
    assert mine.keep("thing", "VALUE = 3\n").VALUE == 3
    assert sum("notebooks/mine" in entry for entry in sys.path) == 1


def test_exercises_offer_the_magic(shell: InteractiveShell, lab: Path) -> None:
    exercises("00")
    name = next((REPOSITORY / "notebooks").glob("00-*.ipynb")).stem
    assert open_mine(name).folder == lab / "notebooks" / "mine" / name
    assert "mine" in shell.magics_manager.magics["cell"]
    with pytest.raises(LabError, match="There are no exercises for '77'"):
        exercises("77")


def test_a_module_survives_the_kernel(mine: Mine) -> None:
    """After a restart the file is there, and no cell has run."""
    mine.path("old").write_text("VALUE = 1\n")
    importlib.invalidate_caches()
    module = mine.current("old")
    assert module is not None and module.VALUE == 1
    assert mine.current("never") is None
