"""``homeroom people``: hand a person what is kept of them, or erase it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from homeroom.cli.actor import actor
from homeroom.cli.ask import confirm
from homeroom.cli.group import Json, Yes, epilog, group
from homeroom.cli.house import in_house
from homeroom.cli.output import counted, note, print_json, say
from homeroom.errors import BadRequest, Conflict
from homeroom.wiring import RECORDS, House

app = group(
    "Hand a person what is kept of them, or erase it. Each leaves a line in the audit trail."
)
UserId = Annotated[str, typer.Argument(metavar="USER", help="The person's user id.")]


@app.command(
    "export",
    epilog=epilog(
        "homeroom people export ada",
        "homeroom people export ada --to ada.json",
        codes=(4, 5),
    ),
)
def export(
    user_id: UserId,
    to: Annotated[
        Path | None, typer.Option("--to", help="The file to write; it must not be there yet.")
    ] = None,
) -> None:
    """Print all that is kept of a person as JSON, by table, or write it to a file."""

    async def work(house: House) -> dict[str, Any]:
        return await RECORDS.export(house.db, user_id, actor())

    found = in_house(work)
    text = msgspec.json.format(msgspec.json.encode(found)).decode()
    if to is None:
        say(text)
        return
    try:
        to.touch(mode=0o600, exist_ok=False)
    except FileExistsError as error:
        raise Conflict(f"{to} is there already.", hint="Name another file.") from error
    except OSError as error:
        raise BadRequest(f"{to} cannot be written: {error.strerror}.") from error
    to.write_text(text + "\n", encoding="utf-8")
    rows = sum(len(each) for each in found["records"].values())
    note(f"{to} holds {counted(rows, 'row')} of {counted(len(found['records']), 'table')}.")


@app.command(
    "erase",
    epilog=epilog("homeroom people erase ada", "homeroom people erase ada --yes", codes=(4,)),
)
def erase(
    user_id: UserId,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Erase a person for good, in all that this database holds.

    What others wrote stays, with a pseudonym for the name. What partners were told, and backups
    that are older, have to be seen to where they are.
    """
    confirm(f"Erase {user_id} for good?", yes=yes)

    async def work(house: House) -> dict[str, int]:
        return await RECORDS.erase(house.db, user_id, actor())

    rows = in_house(work)
    if as_json:
        print_json({"userId": user_id, "rows": rows})
        return
    say(f"Erased {user_id}: {counted(sum(rows.values()), 'row')} of {counted(len(rows), 'table')}.")
