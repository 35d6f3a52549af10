"""A CSV that just passes preprocessing: with one row less it fails."""

import tempfile
from datetime import timedelta
from pathlib import Path
from types import ModuleType

from temporalio import activity, workflow

from labkit.bench import Exercise, Try, expect, quoted, require, short, try_out

with workflow.unsafe.imports_passed_through():
    from labkit.pipeline.work.data import read_table

exercise = Exercise(
    task="Write smallest_file(): the bytes of a CSV that just passes preprocessing.",
    hints=[
        "A file of three rows failed in this notebook. Its message says what it lacks.",
        "Training needs at least 25 rows. A header is not a row, and none is needed. "
        "No two rows may be the same.",
        'Join the rows with "\\n", then .encode() makes bytes of the text.',
    ],
    right="A file that cannot be used fails at its first attempt: no retry makes it longer.",
)


@activity.defn
def preprocess(content: bytes) -> int:
    """The pipeline's own check of a file, on bytes; gives the number of rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.csv"
        path.write_bytes(content)
        return len(read_table(path, "your file"))


@workflow.defn
class Preprocess:
    @workflow.run
    async def run(self, content: bytes) -> int:
        return await workflow.execute_activity(
            preprocess, content, start_to_close_timeout=timedelta(seconds=10)
        )


def preprocessed(content: bytes) -> Try:
    return try_out(Preprocess, content, activities=[preprocess], seconds=10)


@exercise.shared
def content(mine: ModuleType) -> bytes:
    answer = mine.smallest_file()
    require(isinstance(answer, bytes), f"expected bytes, got {short(answer)}: .encode() makes them")
    return answer


@exercise.case("it passes preprocessing")
def passes(mine: ModuleType) -> None:
    preprocessed(content(mine)).ended()


@exercise.case("without its last row it fails, and the type is InsufficientData")
def just_passes(mine: ModuleType) -> None:
    lines = content(mine).splitlines(keepends=True)
    tried = preprocessed(b"".join(lines[:-1]))
    require(
        tried.failure is not None,
        f"expected it to fail without its last row, and it passes with {tried.result} rows",
    )
    assert tried.failure
    expect(quoted(tried.failure).split(":")[0], "InsufficientData")
