"""From the bytes of a CSV to a checked table. Every complaint names the file and the mend."""

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import pandera.pandas as pa

from labkit.core.settings import paths
from labkit.pipeline.errors import fail_fast
from labkit.pipeline.work.columns import (
    COLUMNS,
    KNOWN,
    LARGEST,
    LAYOUT,
    MIN_ROWS,
    SIZES,
    TARGET,
    TOO_LARGE_A_MEDIAN,
    columns_of,
    hint,
    misfits,
    plain,
    wanted,
)
from labkit.pipeline.work.text import read_text

LONGEST_LINE = 10_000
SHOWN = 3
ROWS_AT_ONCE = 20_000

SCHEMA = pa.DataFrameSchema(
    {
        "sex": pa.Column(str, pa.Check.isin(["M", "F", "I"])),
        **{name: pa.Column(float, pa.Check.in_range(0, LARGEST)) for name in SIZES},
        TARGET: pa.Column(float, pa.Check.isin(range(1, LARGEST + 1))),
    }
)


def read_table(path: Path, name: str) -> pd.DataFrame:
    """Read and check UCI's nine columns, with or without a header line.

    A header may name them in any order and spelling (``Whole weight``, ``WholeWeight``); without
    one they come in UCI's order. Any line endings, a BOM and blank lines are fine. All else is
    refused rather than guessed.

    Args:
        path: the file to read.
        name: what to call it in messages: the file that the participant dropped.

    Returns:
        A frame of shape (rows, 9) with the columns :data:`COLUMNS`: ``sex`` as text, seven
        sizes and weights as float (UCI's units: millimetres and grams, divided by 200), and
        ``rings`` as int.

    Raises:
        ApplicationError: ``FileNotFound``, ``InvalidData`` or ``InsufficientData``, not
            retryable, naming the first offending lines and the mend.
    """
    columns, lines = _rows(read_text(path, name), name)
    table = pd.DataFrame([fields for _, fields in lines], columns=columns)[list(COLUMNS)]
    table.index = pd.Index([number for number, _ in lines])
    numbers = _as_numbers(table)
    for start in range(0, len(table), ROWS_AT_ONCE):  # complaints take more room than rows
        part = slice(start, start + ROWS_AT_ONCE)
        _check(table.iloc[part], numbers.iloc[part], name)
    _check_worth(numbers, name)
    return numbers.astype({TARGET: int}).reset_index(drop=True)


def below_data(name: str) -> Path:
    """The file that a request names: whoever may start a workflow may write any name into it.

    Any of these folders may be a link, to another disk say: what counts is where things lie.
    """
    path = paths().find(name)
    homes = (paths().data, paths().raw, paths().processed, paths().example.parent)
    with suppress(ValueError):  # a NUL byte
        if any(path.resolve().is_relative_to(home.resolve()) for home in homes):
            return path
    raise fail_fast("InvalidData", f"{name!r} is not below data/. Copy it to data/raw.")


def misalign_labels(table: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Shuffle the rings of half of the rows, as an upstream join on the wrong key would."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(table), size=len(table) // 2, replace=False)
    rings = table[TARGET].to_numpy(copy=True)
    rings[chosen] = rings[rng.permutation(chosen)]
    return table.assign(rings=rings)


def _rows(text: str, name: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Split into column names and (line number, nine fields), without blank lines."""
    columns = list(COLUMNS)
    rows: list[tuple[int, list[str]]] = []
    wrong: list[tuple[int, list[str]]] = []
    for line, fields in _fields(text, name):
        if not (rows or wrong) and _is_header(fields):
            columns = columns_of(fields) or _refuse_header(fields, name)
        elif len(fields) == len(COLUMNS):
            rows.append((line, fields))
        else:
            wrong.append((line, fields))
        if len(wrong) == SHOWN:  # a hostile file has millions
            break
    if wrong:
        found = ", ".join(f"line {line} has {len(fields)}" for line, fields in wrong)
        raise fail_fast(
            "InvalidData",
            f"{name} must have {len(COLUMNS)} columns separated by commas, but {found}. "
            f"{'' if rows else _why([fields for _, fields in wrong])}The columns are {LAYOUT}.",
        )
    if len(rows) < MIN_ROWS:
        raise fail_fast(
            "InsufficientData",
            f"{name} has {len(rows)} rows, and training needs at least {MIN_ROWS}. Add rows.",
        )
    return columns, rows


def _fields(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each row that is not blank."""
    reader = csv.reader(_lines(text, name), skipinitialspace=True)
    line = 1  # where a row begins: an unclosed quote may end anywhere
    try:
        for row in reader:
            if any(fields := [field.strip() for field in row]):
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as err:
        raise fail_fast("InvalidData", f"{name}, line {line}: {err}. Mend that line.") from None


def _lines(text: str, name: str) -> Iterator[str]:
    """One by one; a line of a hundred thousand columns is refused before it is taken apart."""
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if len(line) > LONGEST_LINE:
            raise fail_fast(
                "InvalidData",
                f"{name}, line {number} has {len(line)} characters. The columns are {LAYOUT}.",
            )
        yield line


def _is_header(fields: list[str]) -> bool:
    """No number in it, and nine fields, or one of our names."""
    if any(map(_is_number, fields)):
        return False
    return len(fields) == len(COLUMNS) or any(plain(field) in KNOWN for field in fields)


def _refuse_header(fields: list[str], name: str) -> NoReturn:
    raise fail_fast(
        "InvalidData",
        f"{name} has the header {', '.join(fields)[:200]}. "
        f"Wrong: {'; '.join(misfits(fields))}. Name the columns {LAYOUT}, in any order.",
    )


def _why(rows: list[list[str]]) -> str:
    """Why the first rows of a file have another number of columns; empty when nobody knows."""
    lengths, first = {len(row) for row in rows}, rows[0]
    if lengths == {1} and first[0].count(",") == len(COLUMNS) - 1:
        return "Each line stands in quotes as a whole: take them away. "
    if lengths == {len(COLUMNS) + 1} and not any(row[-1] for row in rows):
        return "The lines end with a comma, which makes one more column: delete these commas. "
    if lengths == {len(COLUMNS) + 1} and _counts([row[0] for row in rows]):
        return "The first column numbers the rows: delete it (in pandas: index=False). "
    if lengths <= {2 * len(COLUMNS) - 2, 2 * len(COLUMNS) - 1}:
        return "It seems to have decimal commas: write numbers with a decimal point. "
    if lengths == {len(COLUMNS) - 1}:
        return "One is missing, perhaps rings, and without rings nothing can be learned. "
    return ""


def _counts(fields: list[str]) -> bool:
    """Each is a whole number, one more than the one before."""
    return all(field.isdecimal() for field in fields) and all(
        int(after) == int(before) + 1 for before, after in pairwise(fields)
    )


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _as_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Numbers where numbers belong; what is not a number becomes NaN."""
    numbers = table[list(COLUMNS[1:])].apply(pd.to_numeric, errors="coerce").astype(float)
    return pd.concat([table["sex"].str.upper(), numbers], axis=1)


def _check(table: pd.DataFrame, numbers: pd.DataFrame, name: str) -> None:
    try:
        SCHEMA.validate(numbers, lazy=True)
    except pa.errors.SchemaErrors as err:
        cases = err.failure_cases.sort_values(["index", "column"])
        cases = cases.drop_duplicates(["index", "column"])
        wrong = [
            (row.index, row.column, table.at[row.index, row.column])
            for row in cases.head(SHOWN).itertuples(index=False)
        ]
        found = [
            f"line {line}: {column} is {_shown(value)} (must be {wanted(column)})"
            for line, column, value in wrong
        ]
        more = f"; and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
        more += f", up to line {table.index[-1]}" if len(table) == ROWS_AT_ONCE else ""
        hints = dict.fromkeys(hint(column, value) for _, column, value in wrong)
        raise fail_fast(
            "InvalidData",
            f"{name} has values that cannot be used. {'; '.join(found)}{more}. "
            f"{''.join(hints)}Mend or delete these lines and drop the file again.",
        ) from None


def _check_worth(table: pd.DataFrame, name: str) -> None:
    """Each value may be right, and the table still teach nothing, or something else."""
    for column in SIZES:
        if (median := table[column].median()) > TOO_LARGE_A_MEDIAN:
            raise fail_fast(
                "InvalidData",
                f"{name} is in other units: half of the rows have a {column} above {median:g}. "
                f"Sizes are in mm / 200 and weights in g / 200. Mend: if they are in mm and g, "
                f"divide all seven by 200.",
            )
    if table[TARGET].nunique() == 1:
        raise fail_fast(
            "InvalidData",
            f"{name} has {TARGET} {table[TARGET].iloc[0]:g} in all {len(table)} rows. A target "
            f"that does not vary teaches nothing. Add rows with other {TARGET}.",
        )
    if (different := len(table.drop_duplicates())) < MIN_ROWS:
        raise fail_fast(
            "InsufficientData",
            f"{name} has {len(table)} rows, but only {different} different ones, and training "
            f"needs at least {MIN_ROWS}. Add rows.",
        )


def _shown(value: str) -> str:
    return "empty" if value == "" else repr(value[:40])
