"""From the bytes of a CSV to a checked table. Every complaint names the file and the mend."""

import csv
import io
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from labkit.core.settings import MAX_BYTES
from labkit.pipeline.errors import fail_fast

SIZES = (
    "length",
    "diameter",
    "height",
    "whole_weight",
    "shucked_weight",
    "viscera_weight",
    "shell_weight",
)
FEATURES = ("sex", *SIZES)
COLUMNS = (*FEATURES, "rings")
MIN_ROWS = 25
LONGEST_LINE = 10_000
SHOWN = 3
ROWS_AT_ONCE = 20_000
LARGEST = 1000  # no abalone comes near; the model servers take no larger number
LAYOUT = ", ".join(COLUMNS)

SCHEMA = pa.DataFrameSchema(
    {
        "sex": pa.Column(str, pa.Check.isin(["M", "F", "I"])),
        **{name: pa.Column(float, pa.Check.in_range(0, LARGEST)) for name in SIZES},
        "rings": pa.Column(float, pa.Check.isin(range(1, LARGEST + 1))),
    }
)


def read_table(path: Path, name: str) -> pd.DataFrame:
    """Read and check UCI's nine columns, with or without a header line.

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
    columns, lines = _rows(_text(path, name), name)
    table = pd.DataFrame([fields for _, fields in lines], columns=columns)[list(COLUMNS)]
    table.index = pd.Index([number for number, _ in lines])
    numbers = _as_numbers(table)
    for start in range(0, len(table), ROWS_AT_ONCE):  # complaints take more room than rows
        part = slice(start, start + ROWS_AT_ONCE)
        _check(table.iloc[part], numbers.iloc[part], name)
    return numbers.astype({"rings": int}).reset_index(drop=True)


def misalign_labels(table: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Shuffle the rings of half of the rows, as an upstream join on the wrong key would."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(table), size=len(table) // 2, replace=False)
    rings = table["rings"].to_numpy(copy=True)
    rings[chosen] = rings[rng.permutation(chosen)]
    return table.assign(rings=rings)


def _text(path: Path, name: str) -> str:
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
            raise fail_fast("InvalidData", f"{name} is a pipe or a device. Drop a CSV file.")
        if info.st_size > MAX_BYTES:
            raise fail_fast(
                "InvalidData",
                f"{name} is larger than {MAX_BYTES // 2**20} MiB. Drop a smaller file.",
            )
        content = path.read_bytes()
    except FileNotFoundError:
        raise fail_fast(
            "FileNotFound", f"{name} is not there any more ({path}). Drop it again."
        ) from None
    except IsADirectoryError:
        raise fail_fast("InvalidData", f"{name} is a folder. Drop a CSV file.") from None
    except PermissionError:
        raise fail_fast("InvalidData", f"{name} may not be read. Mend: chmod a+r {path}") from None
    if not content.strip():
        raise fail_fast("InvalidData", f"{name} is empty. Drop a CSV with the columns {LAYOUT}.")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise fail_fast("InvalidData", f"{name} is UTF-16. Save it as UTF-8 and drop it again.")
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise fail_fast(
            "InvalidData",
            f"{name} is binary, not text (NUL byte in line {line}). Export it as a CSV.",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = content[: err.start].count(b"\n") + 1
        raise fail_fast(
            "InvalidData",
            f"{name} is not UTF-8 (byte 0x{content[err.start]:02x} in line {line}). "
            f"Save it as UTF-8 and drop it again.",
        ) from None


def _rows(text: str, name: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Split into column names and (line number, nine fields), without blank lines."""
    reader = csv.reader(_lines(text, name), skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    wrong: list[str] = []
    line = 1  # where a row begins: an unclosed quote may end anywhere
    try:
        for row in reader:
            if any(fields := [field.strip() for field in row]):
                if len(fields) == len(COLUMNS):
                    rows.append((line, fields))
                else:
                    wrong.append(f"line {line} has {len(fields)}")
            line = reader.line_num + 1
            if len(wrong) == SHOWN:  # a hostile file has millions
                break
    except csv.Error as err:
        raise fail_fast("InvalidData", f"{name}, line {line}: {err}. Mend that line.") from None
    if wrong:
        raise fail_fast(
            "InvalidData",
            f"{name} must have 9 columns separated by commas, but {', '.join(wrong)}. "
            f"The columns are {LAYOUT}.",
        )
    columns = list(COLUMNS)
    if rows and not any(_is_number(field) for field in rows[0][1]):
        columns = _header(rows.pop(0)[1], name)
    if len(rows) < MIN_ROWS:
        raise fail_fast(
            "InsufficientData",
            f"{name} has {len(rows)} rows, and training needs at least {MIN_ROWS}. Add rows.",
        )
    return columns, rows


def _lines(text: str, name: str) -> Iterator[str]:
    """One by one; a line of a hundred thousand columns is refused before it is taken apart."""
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if len(line) > LONGEST_LINE:
            raise fail_fast(
                "InvalidData",
                f"{name}, line {number} has {len(line)} characters. The columns are {LAYOUT}.",
            )
        yield line


def _header(fields: list[str], name: str) -> list[str]:
    columns = ["_".join(field.lower().split()) for field in fields]
    if sorted(columns) != sorted(COLUMNS):
        raise fail_fast(
            "InvalidData",
            f"{name} has the header {', '.join(fields)[:200]}. "
            f"Name the columns {LAYOUT}, or leave the header out.",
        )
    return columns


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
        found = [
            f"line {row.index}: {row.column} is {_shown(table.at[row.index, row.column])}"
            f" (must be {_wanted(row.column)})"
            for row in cases.head(SHOWN).itertuples(index=False)
        ]
        more = f"; and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
        more += f", up to line {table.index[-1]}" if len(table) == ROWS_AT_ONCE else ""
        raise fail_fast(
            "InvalidData",
            f"{name} has values that cannot be used. {'; '.join(found)}{more}. "
            f"Mend or delete these lines and drop the file again.",
        ) from None


def _wanted(column: str) -> str:
    if column == "sex":
        return "M, F or I"
    if column == "rings":
        return f"a whole number from 1 to {LARGEST}"
    return f"a number from 0 to {LARGEST}"


def _shown(value: str) -> str:
    return "empty" if value == "" else repr(value[:40])
