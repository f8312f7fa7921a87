"""``homeroom programmes``: bring programmes in from files, and see who hands in what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from homeroom.activity.api import (
    Mark,
    Offering,
    Programme,
    Table,
    as_csv,
    compliance,
    parse_week,
)
from homeroom.activity.store import programmes as all_programmes
from homeroom.cli.actor import actor
from homeroom.cli.group import Json, epilog, group
from homeroom.cli.house import in_house
from homeroom.cli.output import counted, print_json, print_table, say
from homeroom.db.id import is_outside_id
from homeroom.errors import BadRequest, Invalid
from homeroom.jobs.schedule import zone
from homeroom.wiring import House

app = group("Bring programmes in from files, and see who hands in what.")
_SHOWN = {None: "", Mark.DONE: "ok", Mark.LATE: "late", Mark.MISSED: "MISSED"}


class OfferingEntry(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True
):
    """An offering of a file."""

    id: str
    title: str
    facilitator_id: str
    starts_on: date
    ends_on: date


class ProgrammeEntry(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True
):
    """A programme of a file, as in PUT /api/v1/programmes/{programmeId}, and its offerings."""

    id: str
    title: str
    time_zone: str
    managers: list[str]
    grace_minutes: Annotated[int, msgspec.Meta(ge=0, le=8_640)] = 0
    closed_on: date | None = None
    log_url: str | None = None
    target_week: str = "current"
    last_day_to_join: Annotated[int, msgspec.Meta(ge=1, le=7)] = 4
    late_is_missed: bool = False
    copy_facilitator: bool = True
    all_clear: bool = False
    per_user_time: bool = False
    offerings: list[OfferingEntry] = []


@dataclass(frozen=True, slots=True)
class Read:
    """A programme of a file with its offerings."""

    programme: Programme
    offerings: list[Offering]


@app.command(
    "import",
    epilog=epilog(
        "homeroom programmes import programmes.json",
        "homeroom programmes import spring/*.json --json",
    ),
)
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="JSON files.")],
    as_json: Json = False,
) -> None:
    """Store programmes and their offerings from JSON files: all of them, or none if one is faulty.

    A file holds one programme or a list: the body of PUT /api/v1/programmes/{programmeId} with its
    `id`, and `offerings`, each the body of its PUT with its `id`. Repeatable.
    """
    read = [each for file in files for each in _read(file)]

    async def work(house: House) -> list[tuple[str, bool, int]]:
        found = []
        async with house.db.write() as tx:
            for each in read:
                programmes = house.activity.programmes
                new = await programmes.put(tx, each.programme, actor())
                for offering in each.offerings:
                    await programmes.put_offering(tx, offering, actor())
                found.append((each.programme.id, new, len(each.offerings)))
        return found

    found = in_house(work)
    if as_json:
        items = [{"id": id, "created": new, "offerings": count} for id, new, count in found]
        print_json({"items": items})
        return
    print_table(
        ("PROGRAMME", "OUTCOME", "OFFERINGS"),
        [(id, "created" if new else "updated", count) for id, new, count in found],
        "There are no programmes in these files.",
    )


def _read(file: Path) -> list[Read]:
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise BadRequest(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise Invalid(f"{file} is not JSON: {error}.") from error
    entries = found if isinstance(found, list) else [found]
    return [_entry(file, index, each) for index, each in enumerate(entries)]


def _entry(file: Path, index: int, body: Any) -> Read:
    where = f"{file}, entry {index + 1}"
    try:
        entry = msgspec.convert(body, ProgrammeEntry)
        zone(entry.time_zone)
        if entry.target_week not in ("current", "previous"):
            raise ValueError("targetWeek is current or previous")
        ids = [entry.id, *entry.managers, *(each.id for each in entry.offerings)]
        if len(entry.id) > 64 or not all(map(is_outside_id, ids)):
            raise ValueError("an id has 1 to 128 characters (a programme's 1 to 64), none control")
        for each in entry.offerings:
            if each.ends_on < each.starts_on:
                raise ValueError(f"the offering {each.id} ends before it starts")
    except (msgspec.ValidationError, ValueError) as error:
        raise Invalid(f"{where}: {error}. Nothing was imported.") from error
    given = msgspec.structs.asdict(entry)
    given.pop("offerings")
    programme = Programme(**{**given, "managers": tuple(entry.managers)})
    return Read(
        programme,
        [
            Offering(
                each.id, entry.id, each.title, each.facilitator_id, each.starts_on, each.ends_on
            )
            for each in entry.offerings
        ],
    )


@app.command("list", epilog=epilog("homeroom programmes list"))
def list_(as_json: Json = False) -> None:
    """List the programmes."""

    async def work(house: House) -> list[Programme]:
        async with house.db.read() as tx:
            return await all_programmes(tx, count=10_000)

    found = in_house(work)
    if as_json:
        items = [{"id": each.id, "title": each.title, "timeZone": each.time_zone} for each in found]
        print_json({"items": items})
        return
    print_table(
        ("ID", "TITLE", "TIME ZONE", "MANAGERS", "CLOSED ON"),
        [
            (each.id, each.title, each.time_zone, " ".join(each.managers), each.closed_on or "-")
            for each in found
        ],
        "There are no programmes. Bring some in with: homeroom programmes import FILE",
    )


@app.command(
    "compliance",
    epilog=epilog(
        "homeroom programmes compliance data-lab",
        "homeroom programmes compliance data-lab --from 2026-W36 --to 2026-W47",
        "homeroom programmes compliance data-lab --csv > compliance.csv",
        codes=(4,),
    ),
)
def show_compliance(
    programme_id: Annotated[str, typer.Argument(metavar="ID")],
    first: Annotated[str | None, typer.Option("--from", help="A week, such as 2026-W36.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="A week; else the current one.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Show who handed in what: a row a facilitator, a column a week; twelve by default."""
    try:
        weeks = [None if key is None else parse_week(key) for key in (first, last)]
    except ValueError as error:
        raise BadRequest(f"{error}.") from error

    async def work(house: House) -> Table:
        async with house.db.read() as tx:
            programme = await house.activity.programmes.get(tx, programme_id)
            return await compliance(tx, programme, weeks[0], weeks[1])

    found = in_house(work)
    if as_json:
        print_json({"weeks": list(found.weeks), "rows": [_row(found, each) for each in found.rows]})
    elif csv:
        say(as_csv(found).replace("\r\n", "\n").rstrip("\n"))
    else:
        _print(found)


def _row(table: Table, row: Any) -> dict[str, Any]:
    marks = {
        week: None if each is None else each.value
        for week, each in zip(table.weeks, row.marks, strict=True)
    }
    return {
        "userId": row.user_id,
        "name": row.name,
        "weeks": marks,
        "missed": row.missed,
        "late": row.late,
        "expected": row.expected,
    }


def _print(table: Table) -> None:
    columns: Sequence[str] = (
        "FACILITATOR",
        *(week.removeprefix("20") for week in table.weeks),
        "MISSED",
        "LATE",
    )
    print_table(
        columns,
        [
            (
                row.name,
                *("" if each is None else _SHOWN.get(each, each.value) for each in row.marks),
                row.missed,
                row.late,
            )
            for row in table.rows
        ],
        "Nothing was owed in these weeks.",
    )
    if table.rows:
        say(f"{counted(len(table.rows), 'facilitator')}. A blank week: nothing of theirs ran.")
