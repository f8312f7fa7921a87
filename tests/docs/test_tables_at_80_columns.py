"""Tables of the command line on a terminal of 80 columns, and their pictures in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.text import Text
from tests.docs.table_svgs import ROOT, TABLES, WIDTH, draw, example_school, run_on_terminal

_BEGUN_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{1,4}")
_WHOLE_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with example_school(tmp_path_factory.mktemp("school")):
        return {name: run_on_terminal(*words) for name, words in TABLES.items()}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_fits_80_columns_and_folds_no_id(shown: dict[str, str], name: str) -> None:
    text = Text.from_ansi(shown[name]).plain
    lines = text.splitlines()
    table = [line for line in lines if not line.startswith("Not shown:")]
    assert [line for line in table if len(line) > WIDTH] == []
    assert len([line for line in table if line.strip()]) >= 3, "a head, a rule and a row"
    assert len(_BEGUN_ID.findall(text)) == len(_WHOLE_ID.findall(text)), text


def test_a_blank_week_says_that_the_offering_may_not_have_been_known(
    shown: dict[str, str],
) -> None:
    assert "or the offering was not known yet" in shown["programmes-compliance"]


def test_ids_are_in_some_of_the_tables(shown: dict[str, str]) -> None:
    assert any(_WHOLE_ID.search(Text.from_ansi(text).plain) for text in shown.values())


def test_the_docs_have_a_picture_of_each_table(shown: dict[str, str]) -> None:
    kept = {file.stem: file for file in (ROOT / "docs" / "tables").glob("*.svg")}
    assert kept.keys() == TABLES.keys(), "draw them: python -m tests.docs.table_svgs docs/tables"
    page = (ROOT / "docs" / "tables.md").read_text()
    for name, file in kept.items():
        assert f"](tables/{name}.svg)" in page
        heading = _headings(shown[name])
        assert all(word in file.read_text() for word in heading), name
        assert "<svg" in draw(name, shown[name])


def _headings(shown: str) -> list[str]:
    """Return the column names of a table: the first line in capitals."""
    lines = [line.strip() for line in Text.from_ansi(shown).plain.splitlines()]
    first = next(line for line in lines if line and not Path(line).suffix)
    return re.findall(r"[A-Za-z]{3,}", first)
