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
from labkit.pipeline.work.description import Column, Description, description, plain
from labkit.pipeline.work.header import columns_of, hint, misfits
from labkit.pipeline.work.text import SEPARATORS, read_text

MIN_ROWS = 25
LONGEST_LINE = 10_000
SHOWN = 3
ROWS_AT_ONCE = 20_000
# What stands for nothing, where a description lets a value be missing.
NOTHING = ("", "na", "n/a", "nan", "null", "none", "?")


def schema_of(described: Description) -> pa.DataFrameSchema:
    """What a table must be, once numbers are numbers."""
    return pa.DataFrameSchema(
        {name: _check_of(described.columns[name]) for name in described.needed}
    )


def _check_of(column: Column) -> pa.Column:
    if column.kind == "category":
        return pa.Column(str, pa.Check.isin([*column.texts, *[""] * column.filled]))
    low, high = column.range
    checks = [pa.Check(np.isfinite)]
    checks += [pa.Check.ge(low)] if low is not None else []
    checks += [pa.Check.le(high)] if high is not None else []
    checks += [pa.Check(lambda values: values % 1 == 0)] if column.kind == "whole" else []
    return pa.Column(float, checks, nullable=column.filled)


def read_table(path: Path, name: str, described: Description | None = None) -> pd.DataFrame:
    """Read and check a CSV as it is described, with or without a header line.

    A header may name the columns in any order and spelling (``Whole weight``, ``WholeWeight``);
    without one they come in the description's order. Any line endings, a BOM and blank lines are
    fine. All else is refused rather than guessed.

    Args:
        path: the file to read.
        name: what to call it in messages: the file that the participant dropped.
        described: what its columns are; ``config/dataset.yml`` when it is left out.

    Returns:
        A frame with the columns that are needed, the target last: categories as text, numbers as
        float, in the units of the description, a whole target as int. A value that may be missing
        and is so is NaN, or an empty text.

    Raises:
        ApplicationError: ``FileNotFound``, ``InvalidData`` or ``InsufficientData``, not
            retryable, naming the first offending lines and the mend.
        LabError: the description cannot be used.
    """
    described = described or description()
    columns, lines = _rows(read_text(path, name, described), name, described)
    table = pd.DataFrame([fields for _, fields in lines], columns=columns)[described.needed]
    table.index = pd.Index([number for number, _ in lines])
    del lines
    values = pd.DataFrame(
        {column: _values(table[column], described.columns[column]) for column in table}
    )
    schema = schema_of(described)
    for start in range(0, len(table), ROWS_AT_ONCE):  # complaints take more room than rows
        part = slice(start, start + ROWS_AT_ONCE)
        _check(schema, table.iloc[part], values.iloc[part], name, described)
    _check_worth(values, name, described)
    if described.columns[described.target].kind == "whole":
        values = values.astype({described.target: int})
    return values.reset_index(drop=True)


def read_checked(path: Path, described: Description) -> pd.DataFrame:
    """Read again what :func:`read_table` gave, and ``to_csv`` has written."""
    texts = [n for n in described.needed if described.columns[n].kind == "category"]
    numbers = [n for n in described.needed if n not in texts]
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(texts, str),
        keep_default_na=False,
        na_values={name: [""] for name in numbers},
    )


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
    """Shuffle the target of half of the rows, as an upstream join on the wrong key would."""
    rng, target = np.random.default_rng(seed), table.columns[-1]
    chosen = rng.choice(len(table), size=len(table) // 2, replace=False)
    labels = table[target].to_numpy(copy=True)
    labels[chosen] = labels[rng.permutation(chosen)]
    return table.assign(**{target: labels})


def _rows(
    text: str, name: str, described: Description
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Split into column names and (line number, fields), without blank lines."""
    columns = list(described.columns)
    rows: list[tuple[int, list[str]]] = []
    wrong: list[tuple[int, list[str]]] = []
    for line, fields in _fields(text, name, described):
        if not (rows or wrong) and _is_header(fields, described):
            columns = columns_of(fields, described) or _refuse_header(fields, name, described)
        elif len(fields) == len(columns):
            rows.append((line, fields))
        else:
            wrong.append((line, fields))
        if len(wrong) == SHOWN:  # a hostile file has millions
            break
    if wrong:
        found = ", ".join(f"line {line} has {len(fields)}" for line, fields in wrong)
        raise fail_fast(
            "InvalidData",
            f"{name} must have {len(columns)} columns separated by "
            f"{SEPARATORS[described.separator]}, but {found}. "
            f"{'' if rows else _why([fields for _, fields in wrong], columns, described)}"
            f"The columns are {described.layout}.",
        )
    if len(rows) < MIN_ROWS:
        raise fail_fast(
            "InsufficientData",
            f"{name} has {len(rows)} rows, and training needs at least {MIN_ROWS}. Add rows.",
        )
    return columns, rows


def _fields(text: str, name: str, described: Description) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each row that is not blank."""
    lines, separator = _lines(text, name, described), described.separator
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=separator != "\t")
    line = 1  # where a row begins: an unclosed quote may end anywhere
    try:
        for row in reader:
            if any(fields := [field.strip() for field in row]):
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as err:
        raise fail_fast("InvalidData", f"{name}, line {line}: {err}. Mend that line.") from None


def _lines(text: str, name: str, described: Description) -> Iterator[str]:
    """One by one; a line of a hundred thousand columns is refused before it is taken apart."""
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if len(line) > LONGEST_LINE:
            raise fail_fast(
                "InvalidData",
                f"{name}, line {number} has {len(line)} characters. "
                f"The columns are {described.layout}.",
            )
        yield line


def _is_header(fields: list[str], described: Description) -> bool:
    """The names of the columns; or no number in it, and as many fields, or one of our names."""
    if columns_of(fields, described):
        return True
    ours = len(fields) == len(described.columns) or any(
        plain(it) in described.known for it in fields
    )
    return ours and not any(map(_is_number, fields))


def _refuse_header(fields: list[str], name: str, described: Description) -> NoReturn:
    raise fail_fast(
        "InvalidData",
        f"{name} has the header {', '.join(fields)[:200]}. "
        f"Wrong: {'; '.join(misfits(fields, described))}. "
        f"Name the columns {described.layout}, in any order.",
    )


def _why(rows: list[list[str]], columns: list[str], described: Description) -> str:
    """Why the first rows of a file have another number of columns; empty when nobody knows."""
    lengths, first, n = {len(row) for row in rows}, rows[0], len(columns)
    if lengths == {1} and first[0].count(described.separator) == n - 1:
        return "Each line stands in quotes as a whole: take them away. "
    if lengths == {n + 1} and not any(row[-1] for row in rows):
        return "The lines end with a comma, which makes one more column: delete these commas. "
    if lengths == {n + 1} and _counts([row[0] for row in rows]):
        return "The first column numbers the rows: delete it (in pandas: index=False). "
    if lengths <= {2 * n - 2, 2 * n - 1}:
        return "It seems to have decimal commas: write numbers with a decimal point. "
    if lengths == {n - 1}:
        target = described.target
        return f"One is missing, perhaps {target}, and without {target} nothing can be learned. "
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


def _values(texts: pd.Series, column: Column) -> pd.Series:
    """Numbers where numbers belong. What may be missing becomes NaN, what is no number infinite."""
    if column.kind == "category":
        folded = {text.casefold(): text for text in column.texts}

        def meant(text: str) -> str:
            if text in column.texts:
                return text
            nothing = column.filled and text.casefold() in NOTHING
            return "" if nothing else folded.get(text.casefold(), text)

        return texts.map({text: meant(text) for text in texts.unique()})
    numbers = pd.to_numeric(texts, errors="coerce").astype(float)
    return (
        numbers.mask(numbers.isna() & ~texts.str.lower().isin(NOTHING), np.inf)
        if column.filled
        else numbers
    )


def _check(
    schema: pa.DataFrameSchema,
    table: pd.DataFrame,
    values: pd.DataFrame,
    name: str,
    described: Description,
) -> None:
    try:
        schema.validate(values, lazy=True)
    except pa.errors.SchemaErrors as err:
        cases = err.failure_cases.sort_values(["index", "column"])
        cases = cases.drop_duplicates(["index", "column"])
        wrong = [
            (row.index, row.column, table.at[row.index, row.column])
            for row in cases.head(SHOWN).itertuples(index=False)
        ]
        found = [
            f"line {line}: {column} is {_shown(value)} (must be {described.columns[column].wanted})"
            for line, column, value in wrong
        ]
        more = f"; and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
        more += f", up to line {table.index[-1]}" if len(table) == ROWS_AT_ONCE else ""
        hints = dict.fromkeys(hint(column, value, described) for _, column, value in wrong)
        raise fail_fast(
            "InvalidData",
            f"{name} has values that cannot be used. {'; '.join(found)}{more}. "
            f"{''.join(hints)}Mend or delete these lines and drop the file again.",
        ) from None


def _check_worth(table: pd.DataFrame, name: str, described: Description) -> None:
    """Each value may be right, and the table still teach nothing, or something else."""
    for column, limit in ((n, c.median_at_most) for n, c in described.features.items()):
        if limit is not None and (median := table[column].median()) > limit:
            raise fail_fast(
                "InvalidData",
                f"{name} is in other units: half of the rows have a {column} above {median:g}. "
                f"{described.other_units}",
            )
    target = described.target
    if table[target].nunique() == 1:
        raise fail_fast(
            "InvalidData",
            f"{name} has {target} {table[target].iloc[0]:g} in all {len(table)} rows. A target "
            f"that does not vary teaches nothing. Add rows with other {target}.",
        )
    if (different := len(table.drop_duplicates())) < MIN_ROWS:
        raise fail_fast(
            "InsufficientData",
            f"{name} has {len(table)} rows, but only {different} different ones, and training "
            f"needs at least {MIN_ROWS}. Add rows.",
        )


def _shown(value: str) -> str:
    return "empty" if value == "" else repr(value[:40])
