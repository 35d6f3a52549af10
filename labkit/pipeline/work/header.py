"""A header that does not fit a description, and values that do not: what they probably are.

Nothing here guesses. What may mean two things is refused, and the words say what it may be.
"""

import difflib
import re
from collections import Counter

from labkit.pipeline.work.description import FILE, Description, plain

NAMES_AT_MOST = 20  # a hostile header has thousands

OTHER = f"is not described (delete that column, or describe it as skip in config/{FILE})"
UNITS = re.compile(r"(mm|cm|m|millimet(er|re)s?|g|grams?|kg|oz|in|inch(es)?)(200)?")
ROW_NUMBERS = ("id", "index", "unnamed0", "level0", "row", "rowid", "rownames", "no", "nr")


def columns_of(header: list[str], described: Description) -> list[str] | None:
    """Our names for those of a header, in its order; None unless each that is needed is there."""
    names = [described.known.get(plain(field), "") for field in header]
    once = len(set(names)) == len(names) and "" not in names
    return names if once and set(described.needed) <= set(names) else None


def misfits(header: list[str], described: Description) -> list[str]:
    """What is wrong with a header, in words: a part for each thing, with the names it holds for."""
    times = Counter(map(plain, header))
    found: dict[str, list[str]] = {}
    for number, field in enumerate(header[:NAMES_AT_MOST], 1):
        if plain(field) not in described.known:
            last = number == len(header) > len(described.needed)
            words = _misfit(field, last, described)
            found.setdefault(words, []).append(_shown(field, described, near=words == OTHER))
    parts = [f"{', '.join(filter(None, names))} {words}".strip() for words, names in found.items()]
    if twice := [column for name, column in described.known.items() if times[name] > 1]:
        parts.append(f"{', '.join(twice)} twice")
    if missing := [column for column in described.needed if not times[plain(column)]]:
        more = f" and {len(missing) - NAMES_AT_MOST} more" if len(missing) > NAMES_AT_MOST else ""
        parts.append(f"missing: {', '.join(missing[:NAMES_AT_MOST])}{more}")
    return parts


def _misfit(field: str, last: bool, described: Description) -> str:
    name = plain(field)
    known = next((key for key in described.known if name.startswith(key)), None)
    if not name and last:
        return "the line ends with a comma, which makes one more column (delete these commas)"
    if not name:
        return "a column has no name, as when pandas saves its index (delete it: index=False)"
    if name in ROW_NUMBERS:
        return "numbers the rows (delete that column)"
    if words := fitting(described.other_names, field):
        return words
    if known and UNITS.fullmatch(name.removeprefix(known)):
        units = dict.fromkeys(c.unit for c in described.features.values() if c.unit)
        here = f", and here they are {' and '.join(units)} (convert, name it without)"
        return f"names a unit{here if units else ' (name it without)'}"
    return OTHER


def _shown(field: str, described: Description, near: bool) -> str:
    """The name, and which of ours is near to it."""
    close = difflib.get_close_matches(plain(field), described.known, 1, 0.7) if near else []
    shown = repr(field[:40]) if plain(field) else ""
    return f"{shown} ({described.known[close[0]]}?)" if close else shown


def fitting(words: dict[str, str], text: str) -> str:
    """The words of the first pattern that the whole text fits; empty when none does."""
    fits = (says for it, says in words.items() if re.fullmatch(it, text, re.IGNORECASE))
    return next(fits, "")


def hint(column: str, value: str, described: Description) -> str:
    """What a value that cannot be used probably is; empty when nobody knows."""
    if words := fitting(described.hints.get(column, {}), value):
        return f"{words} "
    if described.columns[column].kind != "category" and re.fullmatch(r"-?\d+,\d+", value):
        return "Write numbers with a decimal point. "
    return ""
