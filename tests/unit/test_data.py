"""Every file that cannot be trained on is refused once, in words that name it and the mend."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from temporalio.exceptions import ApplicationError

from labkit.pipeline.work import data
from labkit.pipeline.work.data import COLUMNS, misalign_labels, read_table
from tests.conftest import as_ordinary_user

ROW = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,15"
GOOD = [ROW] * 30
HEADER = ",".join(COLUMNS)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "snapshot-of-good.csv"


def read(csv: Path, content: bytes | str | list[str]) -> pd.DataFrame:
    if isinstance(content, list):
        content = "\n".join(content) + "\n"
    csv.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(csv, "good.csv")


def refusal(csv: Path, content: bytes | str | list[str], kind: str = "InvalidData") -> str:
    """The message of the refusal, after the checks that hold for every refusal."""
    with pytest.raises(ApplicationError) as caught:
        read(csv, content)
    return checked(caught.value, kind)


def checked(err: ApplicationError, kind: str) -> str:
    assert err.type == kind
    assert err.non_retryable
    assert err.message.startswith("good.csv")
    mend = r"Drop|Add|Save|Export|Mend|Name the columns|The columns are"
    assert re.search(mend, err.message), "names no mend"
    return err.message


def with_line(number: int, line: str) -> list[str]:
    lines = list(GOOD)
    lines[number - 1] = line
    return lines


@pytest.mark.parametrize("content", [b"", b" \n\r\n\t\n"])
def test_an_empty_file(csv: Path, content: bytes) -> None:
    assert "is empty" in refusal(csv, content)


@pytest.mark.parametrize("content", [GOOD[:24], [HEADER, *GOOD[:24]], [HEADER, "", *GOOD[:24]]])
def test_too_few_rows(csv: Path, content: list[str]) -> None:
    message = refusal(csv, content, "InsufficientData")
    assert "has 24 rows" in message
    assert "at least 25" in message


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", HEADER, ",,,,,,,,\n"])
def test_no_rows_at_all(csv: Path, content: bytes | str) -> None:
    assert "has 0 rows" in refusal(csv, content, "InsufficientData")


def test_25_rows_are_enough(csv: Path) -> None:
    assert len(read(csv, GOOD[:25])) == 25


def test_a_binary_file_names_the_line_of_the_first_nul(csv: Path) -> None:
    assert "line 3" in refusal(csv, b"a\nb\nPNG\0\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16(csv: Path, encoding: str) -> None:
    message = refusal(csv, "\n".join(GOOD).encode(encoding))
    assert ("UTF-16" if encoding == "utf-16" else "binary") in message


def test_latin_1_names_the_byte_and_its_line(csv: Path) -> None:
    message = refusal(csv, "\n".join(with_line(4, ROW.replace("M", "é"))).encode("latin-1"))
    assert "0xe9 in line 4" in message


def test_a_wrong_number_of_columns_everywhere(csv: Path) -> None:
    message = refusal(csv, [line + ",1" for line in GOOD])
    assert "9 columns" in message
    assert "line 1 has 10, line 2 has 10, line 3 has 10." in message


def test_a_wrong_number_of_columns_in_some_rows(csv: Path) -> None:
    lines = with_line(7, "M,0.4")
    lines[11] += ","
    assert "line 7 has 2, line 12 has 10." in refusal(csv, lines)


def test_semicolons(csv: Path) -> None:
    message = refusal(csv, [line.replace(",", ";") for line in GOOD])
    assert "separated by commas" in message
    assert "line 1 has 1" in message


@pytest.mark.parametrize("head", [[], [HEADER], [HEADER, "", ""]])
def test_line_numbers_are_those_of_the_file(csv: Path, head: list[str]) -> None:
    message = refusal(csv, [*head, *with_line(3, ROW.replace("0.455", "long"))])
    assert f"line {len(head) + 3}: length is 'long' (must be a number from 0 to 1000)" in message


@pytest.mark.parametrize(
    "value", ["", "nan", "NaN", "null", "NA", "inf", "-inf", "1e999", "-0.1", "1001", "1e300",
              "abc", "=1+2", "=SUM(B1:B9)", "0x1F", "1_0", "True", "0,5", "½"]
)  # fmt: skip
def test_a_size_that_is_none(csv: Path, value: str) -> None:
    fields = ROW.split(",")
    fields[3] = f'"{value}"'
    message = refusal(csv, with_line(5, ",".join(fields)))
    assert f"line 5: height is {value!r}" in message or "line 5: height is empty" in message


@pytest.mark.parametrize("value", ["0", "-3", "7.5", "inf", "", "1e300", "1001", "many", "=A1"])
def test_rings_that_are_none(csv: Path, value: str) -> None:
    message = refusal(csv, with_line(2, f"{ROW.rsplit(',', 1)[0]},{value}"))
    assert "line 2: rings is" in message
    assert "a whole number from 1 to 1000" in message


@pytest.mark.parametrize("value", ["X", "", "female", "1"])
def test_an_unknown_sex(csv: Path, value: str) -> None:
    message = refusal(csv, with_line(9, value + ROW[1:]))
    assert "line 9: sex is" in message
    assert "M, F or I" in message


def test_the_first_three_complaints_and_how_many_more(csv: Path) -> None:
    message = refusal(csv, [ROW.replace("0.455", "-1")] * 40)
    assert [f"line {n}:" in message for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert "and 37 more" in message


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        "Sex,Length,Diameter,Height,Whole_weight,Shucked_weight,Viscera_weight,Shell_weight,Rings",
        "Sex,Length,Diameter,Height,Whole weight,Shucked weight,Viscera weight,Shell weight,Rings",
    ],
)
def test_headers_of_uci_and_kaggle(csv: Path, header: str) -> None:
    pd.testing.assert_frame_equal(read(csv, [header, *GOOD]), read(csv, GOOD))


def test_a_shuffled_header_decides_the_columns(csv: Path) -> None:
    def reverse(line: str) -> str:
        return ",".join(reversed(line.split(",")))

    table = read(csv, [reverse(line) for line in (HEADER, *GOOD)])
    pd.testing.assert_frame_equal(table, read(csv, GOOD))


@pytest.mark.parametrize("header", [HEADER.replace("rings", "age"), HEADER.replace("sex", "rings")])
def test_a_header_that_does_not_fit(csv: Path, header: str) -> None:
    message = refusal(csv, [header, *GOOD])
    assert "has the header" in message
    assert HEADER.replace(",", ", ") in message


@pytest.mark.parametrize(
    "content",
    [
        "\r\n".join(GOOD),
        "\r".join(GOOD),
        "\n\n".join(["", *GOOD, ",,,,,,,,", ""]),
        "\ufeff" + "\n".join(GOOD),
        "\ufeff" + "\r\n".join([HEADER, *GOOD]),
        "\n".join(GOOD).replace("M", "m"),
        "\n".join(GOOD).replace(",", " , "),
        "\n".join(GOOD).replace("0.455", '"0.455\n"'),
    ],
    ids=["crlf", "cr", "blank", "bom", "bom-header", "lower-case", "spaces", "quoted-newline"],
)
def test_what_is_accepted(csv: Path, content: str) -> None:
    pd.testing.assert_frame_equal(read(csv, content), read(csv, GOOD))


def test_height_0_is_accepted_as_uci_has_it(csv: Path) -> None:
    table = read(csv, with_line(1, ROW.replace("0.095", "0")))
    assert table["height"][0] == 0
    assert table["rings"].dtype == int


def test_lines_after_a_quoted_newline_keep_their_numbers(csv: Path) -> None:
    lines = with_line(2, ROW.replace("0.455", '"0.455\n"'))
    lines[4] = ROW.replace("0.455", "x")
    assert "line 6: length is 'x'" in refusal(csv, lines)


@pytest.mark.parametrize("rows", [30, 5000])
def test_a_quote_that_is_never_closed_names_the_line_where_it_opens(csv: Path, rows: int) -> None:
    lines = [ROW] * rows
    lines[3] = ROW.replace("0.455", '"0.455')
    assert re.search(r"line 4[ :]", refusal(csv, lines))


def test_a_file_that_is_too_large(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "\n".join(GOOD)
    monkeypatch.setattr(data, "MAX_BYTES", len(content) - 1)
    assert "larger than" in refusal(csv, content)
    monkeypatch.setattr(data, "MAX_BYTES", len(content))
    assert len(read(csv, content)) == 30


def test_a_file_that_vanished(csv: Path) -> None:
    with pytest.raises(ApplicationError) as caught:
        read_table(csv, "good.csv")
    assert str(csv) in checked(caught.value, "FileNotFound")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ApplicationError) as caught:
        read_table(tmp_path, "good.csv")
    assert "is a folder" in checked(caught.value, "InvalidData")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_file_that_may_not_be_read(csv: Path) -> None:
    csv.write_text("\n".join(GOOD))
    csv.chmod(0)
    with pytest.raises(ApplicationError) as caught, as_ordinary_user(csv):
        read_table(csv, "good.csv")
    assert f"chmod a+r {csv}" in checked(caught.value, "InvalidData")


def test_misaligned_labels_shuffle_half_of_the_rows_and_nothing_else(csv: Path) -> None:
    table = read(csv, [f"{ROW.rsplit(',', 1)[0]},{n}" for n in range(1, 201)])
    bad = misalign_labels(table)
    moved = (bad["rings"] != table["rings"]).sum()
    assert 80 <= moved <= 100
    assert sorted(bad["rings"]) == sorted(table["rings"])
    pd.testing.assert_frame_equal(bad.drop(columns="rings"), table.drop(columns="rings"))
    pd.testing.assert_frame_equal(misalign_labels(table), bad)
    assert list(table["rings"]) == list(range(1, 201)), "the table that came in was changed"
