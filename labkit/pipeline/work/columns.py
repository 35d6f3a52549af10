"""The nine columns, in one place: what they are called, and what other names and values mean.

Nothing here guesses. A name that is not one of the nine, and a value that may mean two things, is
refused, and the words below say what it probably is.
"""

import difflib
import re
from collections import Counter

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
TARGET = "rings"
COLUMNS = (*FEATURES, TARGET)
LAYOUT = ", ".join(COLUMNS)
MIN_ROWS = 25
LARGEST = 1000  # no abalone comes near; the model servers take no larger number
# In mm / 200 and g / 200: a metre, or a kilogram. Half of a catch is never larger.
TOO_LARGE_A_MEDIAN = 5

NAMES_AT_MOST = 20  # a hostile header has thousands

OTHER = "is not one of the nine"
UNITS = re.compile(r"(mm|cm|m|millimet(er|re)s?|g|grams?|kg|oz|in|inch(es)?)(200)?")
ROW_NUMBERS = ("id", "index", "unnamed0", "level0", "row", "rowid", "rownames", "no", "nr")
SEXES = {"male": "M", "female": "F", "infant": "I"}


def plain(name: str) -> str:
    """``Whole weight``, ``whole_weight``, ``WholeWeight`` and ``Whole.weight`` are one name."""
    return re.sub(r"[\W_]", "", name.lower())


KNOWN = {plain(column): column for column in COLUMNS}


def columns_of(header: list[str]) -> list[str] | None:
    """Our names for those of a header, in its order; None unless it has each of the nine once."""
    names = [KNOWN.get(plain(field), "") for field in header]
    return names if sorted(names) == sorted(COLUMNS) else None


def misfits(header: list[str]) -> list[str]:
    """What is wrong with a header, in words: a part for each thing, with the names it holds for."""
    times = Counter(map(plain, header))
    found: dict[str, list[str]] = {}
    for number, field in enumerate(header[:NAMES_AT_MOST], 1):
        if plain(field) not in KNOWN:
            last = number == len(header) > len(COLUMNS)
            words = _misfit(field, last)
            found.setdefault(words, []).append(_shown(field, near=words == OTHER))
    parts = [f"{', '.join(filter(None, names))} {words}".strip() for words, names in found.items()]
    if twice := [column for name, column in KNOWN.items() if times[name] > 1]:
        parts.append(f"{', '.join(twice)} twice")
    if missing := [column for column in COLUMNS if not times[plain(column)]]:
        parts.append(f"missing: {', '.join(missing)}")
    return parts


def _misfit(field: str, last: bool) -> str:
    name = plain(field)
    known = next((key for key in KNOWN if name.startswith(key)), None)
    if not name and last:
        return "the line ends with a comma, which makes one more column (delete these commas)"
    if not name:
        return "a column has no name, as when pandas saves its index (delete it: index=False)"
    if name in ROW_NUMBERS:
        return "numbers the rows (delete that column)"
    if name.startswith("age"):
        return f"is not {TARGET}: an age in years is the rings + 1.5 (subtract that first)"
    if "ring" in name:
        return f"is not {TARGET} (name it so, if it counts them)"
    if known and UNITS.fullmatch(name.removeprefix(known)):
        return "names a unit, and here they are mm / 200 and g / 200 (convert, name it without)"
    if re.search(r"\.\d+$", field):
        return f"came twice and was numbered (Kaggle's .1 and .2 are {SIZES[4]} and {SIZES[5]})"
    return OTHER


def _shown(field: str, near: bool) -> str:
    """The name, and which of ours is near to it."""
    close = difflib.get_close_matches(plain(field), KNOWN, 1, 0.7) if near else []
    shown = repr(field[:40]) if plain(field) else ""
    return f"{shown} ({KNOWN[close[0]]}?)" if close else shown


def wanted(column: str) -> str:
    """What a value of the column must be, in words."""
    if column == "sex":
        return "M, F or I"
    if column == TARGET:
        return f"a whole number from 1 to {LARGEST}"
    return f"a number from 0 to {LARGEST}"


def hint(column: str, value: str) -> str:
    """What a value that cannot be used probably is; empty when nobody knows."""
    if column == "sex" and value.lower() in SEXES:
        return f"Write {', '.join(f'{short} for {word}' for word, short in SEXES.items())}. "
    if column == "sex" and value.isdigit():
        return "The file does not say which number is which sex: write M, F or I. "
    if column == TARGET and re.fullmatch(r"\d+\.5", value):
        return "If these are ages in years, subtract 1.5 to get rings. "
    if column != "sex" and re.fullmatch(r"\d+,\d+", value):
        return "Write numbers with a decimal point. "
    return ""
