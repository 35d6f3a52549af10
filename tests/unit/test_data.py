"""Every file that cannot be trained on is refused once, in words that name it and the mend."""

import gzip
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from temporalio.exceptions import ApplicationError

from labkit.pipeline.work import text, training
from labkit.pipeline.work.data import misalign_labels, read_table
from tests.conftest import as_ordinary_user

COLUMNS = (
    "sex", "length", "diameter", "height", "whole_weight", "shucked_weight", "viscera_weight",
    "shell_weight", "rings",
)  # fmt: skip
ROW = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15,15"
GOOD = [f"{ROW.rsplit(',', 1)[0]},{rings}" for rings in range(1, 31)]
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
    assert "separates its columns by semicolons" in message


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
    "header",
    ["Whole.weight", "WholeWeight", "whole-weight", "WHOLE WEIGHT", ' "whole_weight" '],
)
def test_one_name_in_many_spellings(csv: Path, header: str) -> None:
    table = read(csv, [HEADER.replace("whole_weight", header), *GOOD])
    pd.testing.assert_frame_equal(table, read(csv, GOOD))


def with_names(**names: str) -> list[str]:
    return [",".join(names.get(column, column) for column in COLUMNS), *GOOD]


def with_column(name: str, values: list[object], at: int = 0) -> list[str]:
    """The good file with one column more, with a header line."""
    lines = [line.split(",") for line in (HEADER, *GOOD)]
    for line, value in zip(lines, [name, *values], strict=True):
        line.insert(at, str(value))
    return [",".join(line) for line in lines]


HEADERS = {
    "age": (with_names(rings="Age"), "'Age' is not rings: an age in years is the rings + 1.5"),
    "target": (with_names(rings="Class_number_of_rings"), "'Class_number_of_rings' is not rings"),
    "units": (
        with_names(length="Length [mm]", shell_weight="Shell weight (g)"),
        "'Length [mm]', 'Shell weight (g)' names a unit, and here they are mm / 200 and g / 200",
    ),
    "short": (with_names(whole_weight="WholeWt"), "'WholeWt' (whole_weight?) is not described"),
    "id": (with_column("id", [*range(30)]), "'id' numbers the rows (delete that column)"),
    "index": (with_column("", [*range(30)]), "a column has no name, as when pandas saves its"),
    "unnamed": (with_column("Unnamed: 0", [*range(30)]), "'Unnamed: 0' numbers the rows"),
    "more": (with_column("Class", [1] * 30, 9), "'Class' is not described (delete that column"),
    "comma": (with_column("", [""] * 30, 9), "the line ends with a comma"),
    "twice": (with_column("Rings", [9] * 30, 9), "rings twice. Name"),
    "kaggle": (
        with_names(shucked_weight="Whole weight.1", viscera_weight="Whole weight.2"),
        "came twice and was numbered (Kaggle's .1 and .2 are shucked_weight and viscera_weight)",
    ),
    "no target": (
        [line.rsplit(",", 1)[0] for line in (HEADER, *GOOD)],
        "Wrong: missing: rings. Name",
    ),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_does_not_fit_says_which_name_and_why(csv: Path, kind: str) -> None:
    content, words = HEADERS[kind]
    message = refusal(csv, content)
    assert words in message
    assert "leave the header out" not in message, "its columns may be in another order"


def test_a_hostile_header_is_shown_in_part(csv: Path) -> None:
    header = ",".join(["rings", *(f"n{number}" for number in range(1500))])
    assert len(refusal(csv, [header, *GOOD])) < 1500


ODD_LINES = {
    "index": ([f"{n},{line}" for n, line in enumerate(GOOD)], "The first column numbers the rows"),
    "comma": ([f"{line}," for line in GOOD], "The lines end with a comma"),
    "decimal commas": ([line.replace(".", ",") for line in GOOD], "seems to have decimal commas"),
    "no target": ([line.rsplit(",", 1)[0] for line in GOOD], "perhaps rings"),
    "quoted": ([f'"{line}"' for line in GOOD], "Each line stands in quotes as a whole"),
}


@pytest.mark.parametrize("kind", ODD_LINES)
def test_another_number_of_columns_says_why(csv: Path, kind: str) -> None:
    content, words = ODD_LINES[kind]
    assert words in refusal(csv, content)


def test_a_single_odd_line_is_blamed_alone(csv: Path) -> None:
    message = refusal(csv, with_line(3, f"{ROW},"))
    assert "but line 3 has 10. The columns are" in message


def european(rings: str) -> list[str]:
    lines = [line.rsplit(",", 1)[0].replace(",", ";").replace(".", ",") for line in GOOD]
    return [f"{line};{rings}" for line in lines]


ALL = "\n".join(GOOD)
FOREIGN = {
    "excel-eu": ("\n".join(european("15")), "by semicolons and has decimal commas"),
    "excel-eu-float": ("\n".join(european("15,0")), "by semicolons and has decimal commas"),
    "tabs": (ALL.replace(",", "\t"), "by tabs,"),
    "tabs-eu": (ALL.replace(",", "\t").replace(".", ","), "by tabs and has decimal commas"),
    "spaces": (ALL.replace(",", "  "), "by spaces"),
    "bars": ("\n".join(f"| {line} |" for line in GOOD).replace(",", " | "), "by bars"),
    "lfs": ("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "git lfs pull"),
    "html": ("\n<!DOCTYPE html>\n<html><div class=a,b,c>", "is a web page"),
    "xml": ("<?xml version='1.0'?><rows/>", "is XML"),
    "arff": ("% UCI\n% Abalone\n\n@RELATION abalone\n@DATA\n" + ALL, "is an ARFF file"),
    "json": ('[{"sex": "M", "length": 0.4}]', "is JSON"),
    "sep": ("sep=,\n" + ALL, "first line for Excel"),
    "xlsx": ("PK\x03\x04and so on", "a ZIP archive or an Excel workbook"),
    "pdf": ("%PDF-1.7", "a PDF"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_format_is_named(csv: Path, kind: str) -> None:
    content, words = FOREIGN[kind]
    assert words in refusal(csv, content)


def test_a_gzip_of_a_good_file(csv: Path) -> None:
    assert "a gzip archive" in refusal(csv, gzip.compress(ALL.encode()))


VALUES = {
    "Male": "Write M for male, F for female, I for infant.",
    "3": "The file does not say which number is which sex",
}


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("sex", VALUES)
def test_sexes_in_words_and_in_numbers(csv: Path, sex: str, bom: str) -> None:
    message = refusal(csv, bom + ALL.replace("M", sex))
    assert f"line 1: sex is '{sex}' (must be M, F or I)" in message
    assert "and 27 more" in message
    assert VALUES[sex] in message


def test_ages_and_decimal_commas_among_the_values(csv: Path) -> None:
    ages = [f"{line.rsplit(',', 1)[0]},16.5" for line in GOOD]
    assert "subtract 1.5 to get rings" in refusal(csv, ages)
    commas = ALL.replace("0.095", '"0,095"')
    assert "Write numbers with a decimal point" in refusal(csv, commas)


@pytest.mark.parametrize("column", [1, 3, 4])
def test_sizes_in_other_units(csv: Path, column: int) -> None:
    """Millimetres and grams are 200 times what they must be: in range, and all wrong."""
    lines = [line.split(",") for line in GOOD]
    for line in lines:
        line[column] = f"{float(line[column]) * 200:g}"
    message = refusal(csv, [",".join(line) for line in lines])
    assert f"half of the rows have a {COLUMNS[column]} above" in message
    assert "divide all seven by 200" in message


def test_a_few_sizes_ten_times_too_large_are_taken_as_uci_has_them(csv: Path) -> None:
    assert read(csv, with_line(2, ROW.replace("0.095", "95")))["height"].max() == 95


def test_a_target_that_does_not_vary(csv: Path) -> None:
    lines = [f"M,0.{n},0.365,0.095,0.514,0.2245,0.101,0.15,9" for n in range(100, 140)]
    assert "has rings 9 in all 40 rows" in refusal(csv, lines)
    assert "has rings 15 in all 40 rows" in refusal(csv, [ROW] * 40)


def test_copies_of_a_few_rows(csv: Path) -> None:
    message = refusal(csv, GOOD[:24] * 10, "InsufficientData")
    assert "has 240 rows, but only 24 different ones" in message
    assert len(read(csv, GOOD[:25] * 10)) == 250


def test_a_feature_that_does_not_vary_is_taken(csv: Path) -> None:
    assert read(csv, GOOD)["length"].nunique() == 1


def test_a_target_that_hardly_varies_is_refused_where_it_would_be_judged(
    csv: Path, tmp_path: Path
) -> None:
    lines = [f"M,0.{n},0.365,0.095,0.514,0.2245,0.101,0.15,9" for n in range(100, 140)]
    table = read(csv, [*lines[1:], lines[0].replace(",9", ",10")])
    table.loc[training.split(table).test.index, "rings"] = 9
    with pytest.raises(ApplicationError, match="have 9 rings, which judges nothing") as caught:
        training.train(table, "good-1", tmp_path)
    assert caught.value.type == "InvalidData"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_byte_that_is_no_text_is_found_whatever_ends_the_lines(csv: Path, ending: str) -> None:
    content = ending.join(with_line(4, ROW.replace("M", "é"))).encode("latin-1")
    assert "0xe9 in line 4" in refusal(csv, content)


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
    monkeypatch.setattr(text, "MAX_BYTES", len(content) - 1)
    assert "larger than" in refusal(csv, content)
    monkeypatch.setattr(text, "MAX_BYTES", len(content))
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
