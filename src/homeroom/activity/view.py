"""The compliance view: a row a facilitator, a column a week."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from homeroom.activity import ledger
from homeroom.activity.compliance import Mark, mark
from homeroom.activity.owed import State
from homeroom.activity.programme import Programme
from homeroom.activity.week import Week, week_at
from homeroom.db.tx import Tx
from homeroom.errors import Invalid
from homeroom.people import api as people
from homeroom.spreadsheet import harmless

DEFAULT_WEEKS = 12
MOST_WEEKS = 60


@dataclass(frozen=True, slots=True)
class Row:
    """One facilitator's weeks; None where nothing of theirs ran."""

    user_id: str
    name: str
    marks: tuple[Mark | None, ...]
    missed: int
    late: int
    expected: int


@dataclass(frozen=True, slots=True)
class Table:
    """Who handed in what."""

    programme_id: str
    weeks: tuple[str, ...]
    rows: tuple[Row, ...]


async def compliance(
    tx: Tx, programme: Programme, first: Week | None = None, last: Week | None = None
) -> Table:
    """Return the view of some weeks, the last twelve by default; as things are at this moment.

    Raises ``Invalid`` for weeks in the wrong order or too many of them.
    """
    last = last or week_at(tx.now, programme.zone)
    first = first or last.shifted(1 - DEFAULT_WEEKS)
    weeks: list[str] = []
    week = first
    while week <= last and len(weeks) <= MOST_WEEKS:
        weeks.append(week.key)
        week = week.shifted(1)
    if not weeks or len(weeks) > MOST_WEEKS:
        raise Invalid(f"Ask for 1 to {MOST_WEEKS} weeks, the first one before the last.")
    states: dict[str, dict[str, list[State]]] = {}
    for row in await ledger.of_programme(tx, programme.id, weeks[0], weeks[-1]):
        mine = states.setdefault(row.facilitator_id, {})
        mine.setdefault(row.week_key, []).append(row.now(tx.now))
    known = await people.find(tx, states)
    rows = []
    for user_id, mine in states.items():
        marks = tuple(mark(mine.get(key, ())) for key in weeks)
        person = known.get(user_id)
        name = user_id if person is None else f"{person.given_name} {person.family_name}"
        expected = sum(each not in (None, Mark.EXEMPT) for each in marks)
        rows.append(
            Row(
                user_id,
                name,
                marks,
                marks.count(Mark.MISSED),
                marks.count(Mark.LATE),
                expected,
            )
        )
    rows.sort(key=lambda row: (row.name, row.user_id))
    return Table(programme.id, tuple(weeks), tuple(rows))


def as_csv(table: Table) -> str:
    """Return the view as CSV; text that a spreadsheet would run is made plain."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["userId", "name", *table.weeks, "missed", "late", "expected"])
    for row in table.rows:
        shown: Sequence[str] = ["" if each is None else each.value for each in row.marks]
        writer.writerow(
            [harmless(row.user_id), harmless(row.name), *shown, row.missed, row.late, row.expected]
        )
    return out.getvalue()
