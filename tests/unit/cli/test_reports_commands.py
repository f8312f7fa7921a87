"""The HR report from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openpyxl
import pytest

from homeroom.catalogue.api import Catalogue
from homeroom.completion.api import Completions, NewCompletion
from homeroom.db.tx import Tx
from homeroom.people import api as people
from homeroom.people.api import Person

COURSE = {
    "title": "Fire safety",
    "units": [{"id": "u", "title": "U", "chapters": [{"id": "a", "title": "A"}]}],
}


@pytest.fixture
def completed(terminal: Any) -> None:
    """Store the completions of two people, one of them in a group."""

    async def write(tx: Tx) -> None:
        await people.put(tx, Person("u-1", None, "Ada", "Okafor", group_ids=("ward-3",)))
        await people.put(tx, Person("u-2", None, "Ben", "Müller"))
        course = (await Catalogue().publish(tx, "fire-safety", COURSE)).course
        at = 1_795_338_000_000_000
        new = [NewCompletion(user, course, 1, at, 8_750, 60, ()) for user in ("u-1", "u-2")]
        await Completions([]).record(tx, new)

    terminal.write(write)


def test_a_report_is_written_in_the_format_of_its_name(
    terminal: Any, completed: None, tmp_path: Path
) -> None:
    file = tmp_path / "hr.csv"
    said = terminal.ok("reports", "hr", "--output", str(file), "--group", "ward-3", "--json")
    assert said.json == {"file": str(file), "rows": 1}
    heading, row = file.read_text("utf-8-sig").splitlines()
    assert heading.startswith("employeeId,givenName,")
    assert row.startswith("u-1,Ada,Okafor,fire-safety,Fire safety,2026-11-22T09:00:00")
    sheet = tmp_path / "hr.xlsx"
    words = ("--from", "2026-11-22", "--to", "2026-11-22", "--course", "fire-safety")
    assert "2 rows" in terminal.ok("reports", "hr", "-o", str(sheet), *words).out
    values = list(openpyxl.load_workbook(sheet)["HR"].values)
    assert {row[0] for row in values[1:]} == {"u-1", "u-2"}
    assert sorted(path.name for path in tmp_path.glob("hr*")) == ["hr.csv", "hr.xlsx"]


def test_bad_names_and_dates_write_nothing(terminal: Any, completed: None, tmp_path: Path) -> None:
    for words in (
        ("--output", str(tmp_path / "hr.pdf")),
        ("--output", str(tmp_path / "hr.csv"), "--from", "yesterday"),
        ("--output", str(tmp_path / "none" / "hr.csv")),
    ):
        assert terminal("reports", "hr", *words).code == 2
    assert list(tmp_path.glob("hr*")) == []
