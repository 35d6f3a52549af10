"""A first description of a CSV, guessed from what is in it: to be read, and mended."""

import csv
import json
import math
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from labkit.core.settings import LabError
from labkit.pipeline.work.data import NOTHING
from labkit.pipeline.work.description import parse
from labkit.pipeline.work.header import ROW_NUMBERS

CATEGORIES_AT_MOST = 30
ROWS_READ = 100_000

TEXT = """\
# A first description of {file}: {rows} rows were read, and the rest is guessed. Mend what is wrong.
name: {name}
says: One row of {file}.
separator: {separator}
target: {target}  # what is predicted; a `unit:` of that column says in what
within: {within}  # "accuracy" is the share of rows that are predicted within so much
example: a row of middling values  # what the examples below are, together
# A model must reach these, or it is not deployed. They ask for little: raise them.
gate: {{accuracy: 0.4, mae: {mae}, r2_score: 0.3, approval_accuracy: 0.5}}
# kind: number, whole, category, or skip: a column that is not used, and may be absent. A value out
# of `range` is refused ([0, null] has no upper end), and so is an empty one, unless it says
# `missing: filled`: a number becomes the median, a category none of its values. Skip what is known
# only when the target is, or the model learns to cheat.
columns:
{columns}
"""


def sketch(path: Path, target: str = "") -> str:
    """
    Args:
        path: a CSV with a header line.
        target: the column to predict; the last one that is a number when it is left out.

    Raises:
        LabError: nothing can be guessed from it; says what to do.
    """
    separator, table = _read(path)
    columns = {str(name): _column(str(name), table[name]) for name in table}
    numbers = [name for name, it in columns.items() if it["kind"] in ("number", "whole")]
    target = target or (numbers[-1] if numbers else "")
    if target not in numbers or len(columns) < 2:
        there = f"Numbers are {', '.join(numbers)}" if numbers else "It has no column of numbers"
        raise LabError(f"What to predict must be a number. {there}: --target NAME says which.")
    columns[target].pop("example")
    columns[target].pop("missing", None)
    spread = float(pd.to_numeric(table[target], errors="coerce").std()) or 1.0
    text = TEXT.format(
        file=path.name,
        rows=len(table),
        name=re.sub(r"[^\w-]|^[^A-Za-z]+", "", path.stem)[:40] or "mine",
        separator=json.dumps(separator),
        target=_flow(target),
        within=_nice(spread / 2),
        mae=_nice(spread * 0.7),
        columns="\n".join(f"  {_flow(name)}: {_flow(it)}" for name, it in columns.items()),
    )
    parse(text, f"the description of {path.name}")
    return text


def _read(path: Path) -> tuple[str, pd.DataFrame]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            first = next(lines, "")
            separator = max(",;\t|", key=first.count)
            header = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
            rows = [row for row in islice(csv.reader(lines, delimiter=separator), ROWS_READ) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise LabError(f"{path} cannot be read: {err}. Name a CSV in UTF-8.") from None
    if len(header) < 2 or "" in header or any(re.fullmatch(r"-?[\d.]+", it) for it in header):
        raise LabError(f"{path} has no header line. Write the columns' names into its first line.")
    if odd := [n for n, row in enumerate(rows, 2) if len(row) != len(header)]:
        raise LabError(f"{path}, line {odd[0]} has not {len(header)} fields as the header has.")
    if not rows:
        raise LabError(f"{path} has no rows below its header line. Add some.")
    return separator, pd.DataFrame(rows, columns=header).apply(lambda it: it.str.strip())


def _column(name: str, texts: pd.Series) -> dict[str, Any]:
    there = texts[~texts.str.lower().isin(NOTHING)]
    missing = {"missing": "filled"} if len(there) < len(texts) else {}
    numbers = pd.to_numeric(there, errors="coerce")
    different = there.nunique()
    if different == 0 or (re.sub(r"\W|_", "", name.lower()) in ROW_NUMBERS):
        return {"kind": "skip"}
    if np.isfinite(numbers).all():
        whole = bool((numbers % 1 == 0).all())
        middle = numbers.sort_values().iloc[len(numbers) // 2]
        return {
            "kind": "whole" if whole else "number",
            "range": _range(float(numbers.min()), float(numbers.max())),
            **missing,
            "example": int(middle) if whole else float(middle),
        }
    if different > CATEGORIES_AT_MOST:
        return {"kind": "skip", "says": f"{different} different texts"}
    values = sorted(there.unique())
    return {"kind": "category", "values": values, **missing, "example": there.mode().iloc[0]}


def _range(low: float, high: float) -> list[float]:
    """Twice as far as the numbers go: another file of the kind should fit, a mistake should not."""
    return [0 if low >= 0 else -_nice(-2 * low), _nice(2 * high) if high > 0 or low >= 0 else 0]


def _nice(number: float) -> float:
    """The next of 1, 2 and 5, and of ten times and a tenth of these: 0.5, 20, 1000."""
    ten = 10.0 ** math.floor(math.log10(number)) if number > 0 else 1.0
    nice = next((step * ten for step in (1, 2, 5) if step * ten >= number * 0.999), 10 * ten)
    return int(nice) if nice >= 1 else float(f"{nice:g}")


def _flow(value: Any) -> str:
    """On one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)
    return text.removesuffix("...\n").strip()
