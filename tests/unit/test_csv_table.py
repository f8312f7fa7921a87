"""CSV files as spreadsheets write them, and every fault with its line."""

from __future__ import annotations

import pytest

from homeroom.csv_table import CsvFault, CsvRow, read_csv

KNOWN = ("userId", "givenName", "note")


def read(content: str | bytes, max_rows: int = 10) -> tuple[list[CsvRow], list[CsvFault]]:
    table = read_csv(
        content.encode() if isinstance(content, str) else content, KNOWN, ("userId",), max_rows
    )
    return table.rows, table.faults


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_of_all_spreadsheets_are_read(mark: str, delimiter: str, end: str) -> None:
    lines = ("note,userId", '"two\nlines", ada ', ",", "Zoë,ben")
    rows, faults = read(mark + end.join(lines).replace(",", delimiter) + end)
    assert faults == []
    assert rows == [
        CsvRow(2, {"note": "two\nlines", "userId": "ada"}),
        CsvRow(5, {"note": "Zoë", "userId": "ben"}),  # after a blank line and one of two lines
    ]


def test_a_delimiter_within_quotes_divides_nothing() -> None:
    rows, faults = read('userId,note\nada,"a; b, ""c"""\n')
    assert (rows[0].cells["note"], faults) == ('a; b, "c"', [])


@pytest.mark.parametrize(
    ("content", "line", "column", "detail"),
    [
        ("user_id,note\nada,\n", 1, "user_id", "did you mean userId?"),
        ("shoe,userId\n", 1, "shoe", "there are userId, givenName, note"),
        ("userId,userId\nada,ada\n", 1, "userId", "twice"),
        ("note\nx\n", 1, "userId", "missing"),
        ("userId,note\nada\n", 2, None, "has 1 cells, and the header has 2"),
        ('userId,note\nada,x\nben,"y\n', 3, None, "cannot be read as CSV"),
        (b"userId\nada\nZo\xeb\n", 3, None, "is not UTF-8"),
        ("", 1, None, "names no columns"),
        ("userId\n\n", 1, None, "has no rows"),
        ("userId\n" + "ada\n" * 11, 12, None, "more than 10 rows"),
    ],
)
def test_a_fault_has_its_line_and_column(
    content: str | bytes, line: int, column: str | None, detail: str
) -> None:
    _, faults = read(content)
    assert [(each.line, each.column) for each in faults if detail in each.detail] == [
        (line, column)
    ]


def test_all_faults_are_named_at_once() -> None:
    _, faults = read("userId,note\nada\nben,,\ncleo,x\n\nd\n")
    assert [each.line for each in faults] == [2, 3, 6]


@pytest.mark.parametrize("name", ["userId", "userld", ""])
def test_a_header_of_a_hundred_thousand_names_is_refused_at_once(name: str) -> None:
    _, faults = read("x," + f"{name}," * 100_000 + "\nada\n")
    assert [(each.line, each.column, each.detail) for each in faults] == [
        (1, None, "has 100002 columns, and 100 at most are read")
    ]


def test_rows_with_faults_count_towards_the_limit() -> None:
    rows, faults = read("userId,note\n" + "ada\n" * 1_000)
    assert (rows, len(faults)) == ([], 12)
    assert faults[-1].detail == "the file has more than 10 rows: divide it"
