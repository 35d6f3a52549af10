"""From the bytes of a file to its text, or to words for what it is instead of a CSV."""

import re
import stat
from pathlib import Path

from labkit.core.settings import MAX_BYTES
from labkit.pipeline.errors import fail_fast
from labkit.pipeline.work.description import Description

BEGINNING = 10_000

# What the first bytes tell, and then the first letters.
BINARY = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "a SQLite database",
}
FOREIGN = {
    r"version https://git-lfs": "a Git LFS pointer: a note of where the data lies. Save the data "
    "itself, with: git lfs pull",
    r"<!doctype|<html|<head|<body": "a web page, as when a browser saves the page around a file. "
    "Save the raw file (on GitHub: Raw)",
    r"<": "XML, not a CSV. Export it as a CSV",
    r"(%[^\r\n]*[\r\n]\s*)*@relation": "an ARFF file, as Weka and OpenML have. Export it as a "
    "CSV, or delete the lines up to @DATA",
    r"[\[{]\s*[\[{\"]": "JSON, not a CSV. Export it as a CSV",
    r"sep=": "a CSV with a first line for Excel alone. Drop it without that line",
}
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def read_text(path: Path, name: str, described: Description) -> str:
    """The text of a file that may be a CSV as it is described.

    Raises:
        ApplicationError: ``FileNotFound`` or ``InvalidData``, not retryable: it cannot be read,
            or says by its beginning that it is something else; with the mend.
    """
    content = _bytes(path, name)
    if not content.strip():
        wanted = f"a CSV with the columns {described.layout}"
        raise fail_fast("InvalidData", f"{name} is empty. Drop {wanted}.")
    for start, what in BINARY.items():
        if content.startswith(start):
            raise fail_fast(
                "InvalidData", f"{name} is binary, not text: {what}. Export its table as a CSV."
            )
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise fail_fast("InvalidData", f"{name} is UTF-16. Save it as UTF-8 and drop it again.")
    if b"\0" in content:
        line = _line(content, content.index(b"\0"))
        raise fail_fast(
            "InvalidData",
            f"{name} is binary, not text (NUL byte in line {line}). Export it as a CSV.",
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = _line(content, err.start)
        raise fail_fast(
            "InvalidData",
            f"{name} is not UTF-8 (byte 0x{content[err.start]:02x} in line {line}). "
            f"Save it as UTF-8 and drop it again.",
        ) from None
    _refuse_foreign(text, name, described)
    return text


def _bytes(path: Path, name: str) -> bytes:
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
            raise fail_fast("InvalidData", f"{name} is a pipe or a device. Drop a CSV file.")
        if info.st_size > MAX_BYTES:
            raise fail_fast(
                "InvalidData",
                f"{name} is larger than {MAX_BYTES // 2**20} MiB. Drop a smaller file.",
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise fail_fast(
            "FileNotFound", f"{name} is not there any more ({path}). Drop it again."
        ) from None
    except IsADirectoryError:
        raise fail_fast("InvalidData", f"{name} is a folder. Drop a CSV file.") from None
    except PermissionError:
        raise fail_fast("InvalidData", f"{name} may not be read. Mend: chmod a+r {path}") from None


def _line(content: bytes, position: int) -> int:
    """The number of the line that a byte is in, whatever ends the lines."""
    return len(re.findall(rb"\r\n|\r|\n", content[:position])) + 1


def _refuse_foreign(text: str, name: str, described: Description) -> None:
    """Other formats, and other separators than the described one, by their first line."""
    start = text.lstrip()[:BEGINNING]
    for pattern, what in FOREIGN.items():
        if re.match(pattern, start, re.IGNORECASE):
            raise fail_fast("InvalidData", f"{name} is {what}, and drop it again.")
    line, ours = re.split(r"[\r\n]", start, maxsplit=1)[0], described.separator
    fields = [field.strip() for field in line.split(ours)]
    others = [sign for sign in SEPARATORS if sign != ours and (ours == "," or len(fields) == 1)]
    words = [SEPARATORS[sign] for sign in others if any(sign in field for field in fields)]
    if len(fields) == 1 and len(line.split()) >= len(described.needed):
        words.append("spaces")
    if words:
        decimal = ours == "," and re.search(r"\d,\d", text[:BEGINNING])
        commas = " and has decimal commas" if decimal else ""
        raise fail_fast(
            "InvalidData",
            f"{name} separates its columns by {words[0]}{commas}, as spreadsheets do in many "
            f"countries. Save it with columns separated by {SEPARATORS[ours]} and with decimal "
            f"points, and drop it again.",
        )
