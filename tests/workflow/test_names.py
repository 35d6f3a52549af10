"""Ids made from file names that may hold anything."""

import os
import re
from datetime import UTC, datetime
from pathlib import PurePosixPath
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from labkit.pipeline.names import model_id, workflow_id
from labkit.services.model_server import ModelId

MTIME = int(datetime(2026, 3, 4, 5, 6, 7, 89_000, UTC).timestamp() * 1000) * 1_000_000
STAMP = "mlops-20260304-050607-089"
UUID4 = UUID("12345678-9abc-4def-8123-456789abcdef")
PATTERN = ModelId.__metadata__[0].metadata[0].pattern  # type: ignore[attr-defined]
LONGEST = 255  # bytes, on the file systems that are in use


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("good.csv", "good"),
        ("my file.csv", "my file"),
        ("-rf.csv", "-rf"),
        ("größe 🐚.csv", "größe 🐚"),
        ("a.b.csv", "a.b"),
        ("x" * 200 + ".csv", "x" * 200),
        ("2026-01-01-deadbeef.csv", "2026-01-01-deadbeef"),
    ],
)
def test_the_stem_as_it_is(path: str, stem: str) -> None:
    assert workflow_id(PurePosixPath(path), MTIME) == f"{STAMP}-{stem}"


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("line\nfeed.csv", "line_feed"),
        ("good.CSV", "good"),
        ("a/good.csv", "good"),
        ("b/good.csv", "good"),
        ("back\\slash.csv", "back_slash"),
        ("a~12345678.csv", "a_12345678"),
        ("right-to-left\u202e.csv", "right-to-left_"),
        (os.fsdecode(b"caf\xe9.csv"), "caf_"),
        ("\ud800.csv", "_"),
    ],
)
def test_a_hash_tells_apart_what_the_stem_does_not(path: str, stem: str) -> None:
    assert re.fullmatch(rf"{STAMP}-{stem}~[0-9a-f]{{8}}", workflow_id(PurePosixPath(path), MTIME))


def test_milliseconds_decide() -> None:
    path = PurePosixPath("good.csv")
    assert workflow_id(path, MTIME + 999_999) == workflow_id(path, MTIME)
    assert workflow_id(path, MTIME + 1_000_000) == f"{STAMP[:-3]}090-good"
    assert workflow_id(path, -1) == "mlops-19691231-235959-999-good"
    assert workflow_id(path, 10**21).startswith("mlops-336580927-")  # a broken clock


names = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=60)
csvs = st.builds(lambda stem, suffix: stem + suffix, names, st.sampled_from([".csv", ".CSV"]))
files = st.builds(
    lambda folders, name: PurePosixPath(*folders, name),
    st.lists(names.filter(lambda name: name not in (".", "..")), max_size=2),
    csvs,
)
times = st.integers(0, 4 * 10**12)


@given(files, files, times, times)
@example(PurePosixPath("a/x.csv"), PurePosixPath("b/x.csv"), 0, 0)
@example(PurePosixPath("x.csv"), PurePosixPath("x.CSV"), 0, 0)
@example(PurePosixPath("x/y.csv"), PurePosixPath("x_y.csv"), 0, 0)
@example(PurePosixPath("x\n.csv"), PurePosixPath("x_.csv"), 0, 0)
def test_two_files_never_share_an_id(
    one: PurePosixPath, other: PurePosixPath, early: int, late: int
) -> None:
    assume((one, early) != (other, late))
    ids = [workflow_id(one, early * 1_000_000), workflow_id(other, late * 1_000_000)]
    assert ids[0] != ids[1]


def test_nobody_can_choose_the_id_of_another_file() -> None:
    hashed = workflow_id(PurePosixPath("a/x.csv"), MTIME)
    stem = hashed.removeprefix(f"{STAMP}-")
    assert workflow_id(PurePosixPath(f"{stem}.csv"), MTIME) != hashed


@given(files, times)
def test_ids_are_printable_and_short_enough(path: PurePosixPath, milliseconds: int) -> None:
    id = workflow_id(path, milliseconds * 1_000_000)
    assert id.isprintable()
    assert len(id.encode()) <= 1000, "the server takes no more"
    assert "/" not in id and "\\" not in id


@given(st.text(max_size=LONGEST))
@example("data/raw/" + "x" * 200 + ".csv")
@example("data/raw/current.csv")
@example("data/raw/🐚.csv")
@example("İstanbul.csv")
def test_model_ids_fit_the_model_server(path: str) -> None:
    id = model_id(path, UUID4)
    assert re.fullmatch(PATTERN, id)
    assert id.endswith("-12345678")
    assert id != "current"


def test_model_ids_read_well() -> None:
    assert model_id("data/raw/Good File (2).csv", UUID4) == "good-file-2-12345678"
    assert model_id("data/raw/🐚.csv", UUID4) == "model-12345678"
