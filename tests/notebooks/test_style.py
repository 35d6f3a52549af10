"""Notebooks read alike, run alike, and can be read by everybody."""

import ast
import itertools
import re
import statistics
from pathlib import Path

import nbformat
import pytest
from nbval.plugin import get_sanitize_patterns

from labkit.core.settings import REPOSITORY
from labkit.views.page import leave_out_calls
from tests.notebooks.__main__ import LESSONS, NOTEBOOKS, clean

OPENING = ("What you'll do", "What you'll learn", "What you'll need")
CLOSING = (
    "## What you did",
    "## What you learned",
    "## In your own project",
    "## In production",
    "## Where to go next",
)
PROTOBUF = r"WhichOneof|HasField|_event_attributes|\bscheduled\[\d"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


@pytest.fixture
def notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def sources(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def is_stub(source: str) -> bool:
    """Whether the cell is for the participant to write: its length is the exercise's."""
    return source.startswith("%%mine ")


def test_there_are_notebooks() -> None:
    numbers = [int(path.name[:2]) for path in LESSONS]
    assert numbers == sorted(set(numbers)) and numbers[:11] == list(range(11))
    assert len(LESSONS) >= 2
    assert [path.name for path in NOTEBOOKS if path not in LESSONS] == ["dashboard.ipynb"]


def test_cells_are_short(notebook: nbformat.NotebookNode) -> None:
    lines = [len(s.splitlines()) for s in sources(notebook, "code") if not is_stub(s)]
    assert statistics.median(lines) <= 4
    assert max(lines) <= 20


def test_prose_carries_the_code(lesson: nbformat.NotebookNode) -> None:
    prose = re.sub(r"```.*?```", "", "\n".join(sources(lesson, "markdown")), flags=re.S)
    ours = [source for source in sources(lesson, "code") if not is_stub(source)]
    code = [line for source in ours for line in source.splitlines() if line]
    assert len(prose.split()) / len(code) >= 10


def test_it_opens_and_closes_as_all_do(lesson: nbformat.NotebookNode) -> None:
    first, text = lesson.cells[0].source, "\n".join(sources(lesson, "markdown"))
    assert first.startswith("# ") and "**Minutes:**" in first
    assert all(f"**{part}**" in first for part in OPENING)
    assert all(part in text for part in CLOSING)


def test_it_leaves_the_lab_tidy(lesson: nbformat.NotebookNode) -> None:
    assert sources(lesson, "code")[-1].strip() == "lab.tidy()"


def test_what_is_for_a_project_of_ones_own_needs_no_lab(lesson: nbformat.NotebookNode) -> None:
    text = "\n".join(sources(lesson, "markdown"))
    part = text.split("## In your own project\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", part, flags=re.S)
    compile(code, "snippet", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert "labkit" not in code
    assert 3 <= len([line for line in code.splitlines() if line.strip()]) <= 13


def test_no_puzzle_of_protobuf(notebook: nbformat.NotebookNode) -> None:
    for source in sources(notebook, "code"):
        assert not re.search(PROTOBUF, source), f"a call with a name, please: {source}"


def test_what_comes_out_has_a_name(notebook: nbformat.NotebookNode) -> None:
    """No bare tuple: nobody knows what its parts are."""
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        for output in cell.outputs:
            text = output.get("data", {}).get("text/plain", "").strip()
            bare = text.startswith("(") and text.endswith(")")
            assert not (output.output_type == "execute_result" and bare), f"{cell.source}\n{text}"


def test_headings_descend_one_at_a_time(notebook: nbformat.NotebookNode) -> None:
    text = re.sub(r"```.*?```", "", "\n".join(sources(notebook, "markdown")), flags=re.S)
    levels = [len(found) for found in re.findall(r"^(#+) ", text, flags=re.M)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_pictures_have_words(notebook: nbformat.NotebookNode) -> None:
    assert not re.findall(r"!\[\]", "\n".join(sources(notebook, "markdown")))
    for before, after in itertools.pairwise(notebook.cells):
        if any("image/png" in output.get("data", {}) for output in before.get("outputs", [])):
            assert after.cell_type == "markdown" and "The plot shows" in after.source


def test_links_lead_somewhere(path: Path, notebook: nbformat.NotebookNode) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", "\n".join(sources(notebook, "markdown"))):
        if not link.startswith("http"):
            assert (path.parent / link.partition("#")[0]).exists(), link


def test_outputs_are_committed_and_carry_no_trace_of_a_machine(
    path: Path, notebook: nbformat.NotebookNode
) -> None:
    text = path.read_text(encoding="utf-8")
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        assert cell.execution_count, f"never executed: {cell.source[:60]}"
        assert not [output for output in cell.outputs if output.output_type == "error"]
    for trace in (str(REPOSITORY), str(Path.home()) + "/", "site-packages", "/tmp/", "\\u001b["):
        assert trace not in text, trace
    assert nbformat.writes(clean(notebook)).strip() == text.strip()


def test_no_shell_no_input_no_ports(notebook: nbformat.NotebookNode) -> None:
    code = "\n".join(sources(notebook, "code"))
    for forbidden in (
        r"^\s*(!|%(?!%mine ))",
        r"\binput\(",
        "nest_asyncio",
        r":\d{4}\b",
        r"\bsleep\(",
    ):
        assert not re.search(forbidden, code, flags=re.M), forbidden


def test_the_dashboards_page_is_the_dashboard_alone() -> None:
    """What its notebook does as calls stays out of the page, which runs at each reload."""
    notebook = nbformat.read(REPOSITORY / "notebooks" / "dashboard.ipynb", as_version=4)
    leave_out_calls(None, notebook, "")
    (code,) = sources(notebook, "code")
    assert code.endswith("dashboard = Dashboard(Lab.start)\ndashboard.show()")
    assert len(sources(notebook, "markdown")) == 1


def test_a_widget_has_words_beside_it(notebook: nbformat.NotebookNode) -> None:
    """The committed outputs are those of a kernel whose front end knows no widgets."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and re.search(r"\.(buttons|approval|show)\(", cell.source):
            assert any(output.get("text", "").strip() for output in cell.outputs), cell.source


def test_each_pattern_of_the_sanitizing_is_read() -> None:
    """nbval passes over a pattern without a replacement, and says nothing."""
    text = Path(__file__).with_name("sanitize.cfg").read_text(encoding="utf-8")
    assert len(get_sanitize_patterns(text)) == text.count("regex:")
