"""The help of every command, and the page that is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom.cli import reference
from homeroom.cli.group import parse_duration_us
from homeroom.cli.terminal import format_instant, plain_table, to_json_fields, truncate_line
from homeroom.errors import BadRequest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "cli.md"


def test_the_page_shows_the_help_of_today() -> None:
    written = reference.reference_page()
    assert PAGE.read_text() == written, (
        "write it anew: python -m homeroom.cli.reference > docs/cli.md"
    )


def test_every_command_has_examples_and_exit_codes() -> None:
    for section in reference.reference_page().split("\n## ")[1:]:
        path, _, text = section.partition("\n")
        if "\nCommands:\n" not in text:
            assert "Examples:" in text, path
            assert "Exit codes:" in text, path
            example = text.split("Examples:\n", 1)[1]
            assert path in example, path


def test_no_help_is_wider_than_a_terminal() -> None:
    for line in reference.reference_page().split("```text")[1:]:
        assert all(len(each) <= 100 for each in line.split("```")[0].split("\n")), line


def test_no_summary_of_a_command_is_cut() -> None:
    lists = [text.split("```")[0] for text in reference.reference_page().split("\nCommands:\n")[1:]]
    assert len(lists) > 15
    assert all("..." not in each for each in lists)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("12H", 43_200), (" 7d", 604_800), ("0s", 0)]
)
def test_an_age_has_a_unit(text: str, seconds: int) -> None:
    assert parse_duration_us(text) == seconds * 1_000_000


@pytest.mark.parametrize("text", ["", "7", "d", "-1d", "1.5h", "1h30m", "٣d"])
def test_another_text_than_a_duration_is_bad_input(text: str) -> None:
    with pytest.raises(BadRequest, match="not a duration"):
        parse_duration_us(text)


def test_fields_are_written_as_the_api_writes_them() -> None:
    fields = {
        "run_at": 1_000_000,
        "finished_at": None,
        "attempts_made": 2,
        "data": {"some_key": 1, "sent_at": 5},
        "logs": [{"at": 0, "line": "x"}],
        "waits_for": ["a_b"],
    }
    assert to_json_fields(fields) == {
        "runAt": "1970-01-01T00:00:01.000000Z",
        "finishedAt": None,
        "attemptsMade": 2,
        "data": {"some_key": 1, "sent_at": 5},
        "logs": [{"at": "1970-01-01T00:00:00.000000Z", "line": "x"}],
        "waitsFor": ["a_b"],
    }


def test_a_plain_table_is_aligned_and_cuts_nothing() -> None:
    lines = plain_table(("ID", "N"), [("a" * 200, 1), ("b\n", 22)]).splitlines()
    assert lines == ["ID" + " " * 200 + "N", "a" * 200 + "  1", "b\\n" + " " * 199 + "22"]
    assert truncate_line("one line\nanother", 60) == "one line"
    assert truncate_line("x" * 61, 60) == "x" * 57 + "..."
    assert (truncate_line(None, 9), format_instant(None)) == ("-", "-")
