"""What lies beside the notebooks: the glossary, and the instructor's pages."""

import re
import statistics
from itertools import pairwise

import nbformat
import pytest

from labkit.core.settings import REPOSITORY

NOTEBOOKS = REPOSITORY / "notebooks"
GLOSSARY = (NOTEBOOKS / "GLOSSARY.md").read_text(encoding="utf-8")
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
