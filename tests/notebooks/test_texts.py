"""What lies beside the notebooks: the glossary, and the instructor's pages."""

import re
import statistics
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from labkit import Lab, Run, cli, doctor
from labkit.core.settings import REPOSITORY
from labkit.scenarios import Scenarios
from tests.notebooks.__main__ import LESSONS

NOTEBOOKS = REPOSITORY / "notebooks"
GLOSSARY = (NOTEBOOKS / "GLOSSARY.md").read_text(encoding="utf-8")
INSTRUCTOR = (NOTEBOOKS / "INSTRUCTOR.md").read_text(encoding="utf-8")
# A term, and what is said of it with its link.
ENTRIES = re.findall(r"^## (.+)\n\n(.+)$", GLOSSARY, re.MULTILINE)
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
TEMPORAL = re.compile(r"https://(docs|python|learn)\.temporal\.io/\S+")


def words(text: str) -> list[str]:
    return LINK.sub("", text).split()


# ---- the glossary


def test_the_glossary_is_in_the_order_of_the_alphabet() -> None:
    terms = [term.lower() for term, _ in ENTRIES]
    assert len(terms) >= 45
    assert len(terms) == len(re.findall(r"^## ", GLOSSARY, re.MULTILINE))
    assert terms == sorted(set(terms))


@pytest.mark.parametrize(("term", "text"), ENTRIES, ids=[term for term, _ in ENTRIES])
def test_a_term_has_a_sentence_or_two_and_a_link(term: str, text: str) -> None:
    (link,) = LINK.findall(text)
    assert TEMPORAL.fullmatch(link[1])
    said = LINK.sub("", text).strip()
    assert 1 <= len(re.findall(r"[.!?](?= |$)", said)) <= 2
    assert len(said.split()) <= 45


def test_each_of_00s_words_is_in_the_glossary() -> None:
    notebook = nbformat.read(NOTEBOOKS / "00-start-here.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    eight = re.findall(r"^\| \*\*([^*]+)\*\* \|", text.split("## Eight words")[1], re.MULTILINE)
    assert len(eight) == 8
    assert {word.lower() for word in eight} <= {term.lower() for term, _ in ENTRIES}


def test_links_into_the_glossary_lead_to_a_term() -> None:
    anchors = {term.lower().replace(" ", "-") for term, _ in ENTRIES}
    for path in [*NOTEBOOKS.glob("*.ipynb"), *NOTEBOOKS.rglob("*.md")]:
        for anchor in re.findall(r"GLOSSARY\.md#([^)\s]+)\)", path.read_text(encoding="utf-8")):
            assert anchor in anchors, f"{path.name}: {anchor}"


def test_no_two_sentences_in_a_row_are_long() -> None:
    lengths = [len(words(part)) for _, text in ENTRIES for part in re.split(r"(?<=[.:;]) ", text)]
    assert statistics.mean(lengths) <= 13
    assert all(min(pair) <= 24 for pair in pairwise(lengths))


# ---- the tables of notebooks


def test_the_tables_have_each_lesson_with_its_minutes() -> None:
    """README's and 00's tables say the same of each."""
    tables = [
        re.findall(r"\| (?:\[|\*\*)(\d\d-[a-z-]+).*?\| ([^|]+) \| (\d+) \|", text)
        for text in (read("README.md"), read("notebooks/00-start-here.ipynb"))
    ]
    assert tables[0] == tables[1]
    rows = [(name, minutes) for name, _, minutes in tables[0]]
    assert rows == [(path.stem, str(stated(path))) for path in LESSONS]


def read(file: str) -> str:
    return (REPOSITORY / file).read_text(encoding="utf-8").replace("\\n", "\n")


def stated(path: Path) -> int:
    (minutes,) = re.findall(r"\*\*Minutes:\*\* *(\d+)", path.read_text(encoding="utf-8"))
    return int(minutes)


# ---- the pictures


def test_each_picture_is_there_and_says_what_is_on_it() -> None:
    """``make pictures`` makes them; here it is only that each is shown, and in words."""
    images = NOTEBOOKS / "images"
    shown = set()
    for path in [REPOSITORY / "README.md", *LESSONS]:
        for words, name in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", read(str(path))):
            assert (path.parent / name).exists(), f"{path.name}: {name}"
            assert len(words.split()) >= 10, f"{path.name}: {name}"
            shown.add((path.parent / name).resolve())
    assert shown == {path.resolve() for path in images.iterdir()}


# ---- the instructor's pages

ORDERS = {"Sixty minutes": 60, "Two hours": 120, "Four hours": 240}


def section(start: str) -> str:
    """A section of the instructor's pages, by how its heading begins."""
    (found,) = re.findall(rf"^## ({start}.*?)(?=^## |\Z)", INSTRUCTOR, re.MULTILINE | re.DOTALL)
    return found


def rows(text: str) -> list[list[str]]:
    """The cells of each row of its table, without the heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def code() -> list[str]:
    return re.findall(r"`([^`\n]+)`", INSTRUCTOR)


def buttons() -> str:
    """The code that makes the dashboard's buttons."""
    folder = REPOSITORY / "labkit" / "views"
    return "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))


@pytest.mark.parametrize(("name", "minutes"), ORDERS.items())
def test_a_running_order_fills_its_time(name: str, minutes: int) -> None:
    assert sum(int(row[0]) for row in rows(section(name))) == minutes


@pytest.mark.parametrize("name", ORDERS)
def test_a_lesson_as_a_whole_has_the_time_that_it_states(name: str) -> None:
    for row in rows(section(name)):
        whole = re.fullmatch(r"\[\d\d\]\(([^)]+)\)", row[1])
        if whole:
            first = nbformat.read(NOTEBOOKS / whole[1], as_version=4).cells[0].source
            (stated,) = re.findall(r"\*\*Minutes:\*\* (\d+)", first)
            assert int(row[0]) >= int(stated) * 2 / 3, row[1]


def test_each_lesson_is_in_the_four_hours() -> None:
    lessons = {path.name for path in NOTEBOOKS.glob("0[0-8]-*.ipynb")}
    assert len(lessons) == 9
    assert lessons == {link for _, link in LINK.findall(section("Four hours")) if link[0] == "0"}


def test_its_links_lead_somewhere() -> None:
    heads = re.findall(r"^#+ (.+)$", INSTRUCTOR, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}
    texts = [INSTRUCTOR, (NOTEBOOKS / "plain" / "README.md").read_text(encoding="utf-8")]
    for link in (link for text in texts for _, link in LINK.findall(text)):
        path, _, anchor = link.partition("#")
        assert (
            path.startswith("https:")
            or not path
            or (NOTEBOOKS / path).exists()
            or (NOTEBOOKS / "plain" / path).exists()
        ), link
        assert not anchor or anchor in anchors, link


def test_parts_of_lessons_that_it_names_exist() -> None:
    for text, name in re.findall(r"\[\d\d\]\(([^)]+)\), [^|`]*?\"([^\"]+)\"", INSTRUCTOR):
        notebook = nbformat.read(NOTEBOOKS / text, as_version=4)
        assert any(f"## {name}" in cell.source for cell in notebook.cells), f"{text}: {name}"


def test_commands_that_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    made = [text.split()[1] for text in code() if text.startswith("make ") and "--" not in text]
    assert {"wheels", "setup", "doctor", "lab", "dashboard", "reset", "down"} <= set(made)
    assert set(made) <= targets
    parser = cli._parser()
    asked = [text.split()[3:] for text in code() if text.startswith("python -m labkit ")]
    assert asked
    for arguments in asked:
        parser.parse_args(arguments)


def test_calls_that_it_names_exist() -> None:
    calls = [text for text in code() if re.match(r"(lab|Lab|run|doctor|dashboard)\.", text)]
    names = {"lab": Lab, "Lab": Lab, "run": Run, "doctor": doctor}
    for call in calls:
        owner, name = re.findall(r"^(\w+)\.(\w+)", call)[0]
        assert hasattr(names[owner], name), call
    assert {"lab.progress()", "lab.tidy()"} <= set(calls)
    assert {"jump_to", "validate"} <= {call.split(".")[1].split("(")[0] for call in calls}
    for number in re.findall(r"lab\.\w+\(\"(\d\d)\"\)", INSTRUCTOR):
        assert list(NOTEBOOKS.glob(f"{number}-*.ipynb")), number


def test_buttons_that_it_names_exist() -> None:
    made, named = buttons(), set(re.findall(r"\*\*([^*]+)\*\*", INSTRUCTOR))
    assert len(named) >= 10
    for button in named:
        verb, _, server = button.partition(" ")
        of_a_server = f"{verb} {{word}}" in made and server in Scenarios.SERVERS.values()
        assert f'"{button}"' in made or of_a_server, button


def test_settings_and_files_that_it_names_exist() -> None:
    settings = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    for name in re.findall(r"LABKIT_[A-Z_]+", INSTRUCTOR):
        assert f"{name}=" in settings, name
    assert list(NOTEBOOKS.glob("exercises/*/solution.py"))
    for folder in (".devcontainer", "binder"):
        assert f"`{folder}/`" in INSTRUCTOR and (REPOSITORY / folder).is_dir()


def test_it_has_a_sheet_and_an_honest_paragraph() -> None:
    assert len(rows(section("A closing sheet"))) >= 8
    assert 80 <= len(words(section("When not to use Temporal"))) <= 200
