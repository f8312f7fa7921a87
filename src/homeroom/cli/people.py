"""``homeroom people``: import, list, suspend, export and erase people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeroom.cli.application import audit_actor, run_with_database
from homeroom.cli.csv_import import (
    CsvFileArgument,
    DryRunOption,
    print_import_report,
    read_csv_file,
)
from homeroom.cli.group import JsonOption, LazyModule, YesOption, command_group, epilog
from homeroom.cli.terminal import (
    confirm,
    pluralize,
    print_json,
    print_table,
    print_text,
    print_to_stderr,
)
from homeroom.errors import BadRequest, Conflict

if TYPE_CHECKING:
    from msgspec import json as msgspec_json

    from homeroom.bootstrap import personal_data
    from homeroom.db.database import Database
    from homeroom.people import api as people_api
    from homeroom.people import import_routes as people_import
    from homeroom.people.api import Person
    from homeroom.people.import_routes import CsvImportReport
else:
    msgspec_json = LazyModule("msgspec.json")
    personal_data = LazyModule("homeroom.bootstrap.personal_data")
    people_api = LazyModule("homeroom.people.api")
    people_import = LazyModule("homeroom.people.import_routes")

app = command_group(
    "Import, list, suspend, export and erase people. Each change, and each export, adds a line to"
    " the audit trail."
)
UserIdArgument = Annotated[str, typer.Argument(metavar="USER", help="The person's user id.")]


@app.command(
    "import",
    epilog=epilog(
        "homeroom people import people.csv --dry-run",
        "homeroom people import people.csv",
        "homeroom people import people.csv --json",
    ),
)
def import_(
    file: CsvFileArgument, dry_run: DryRunOption = False, as_json: JsonOption = False
) -> None:
    """Store people from a CSV file in one commit, or none if there is a fault.

    The columns are the fields of the body of PUT /api/v1/people/{userId}, and `userId`. A column
    that the file does not have stays as it is stored, and an empty cell clears the value. Several
    roles or groups in a cell are divided by `|`. The same file again changes nothing.
    """
    content = read_csv_file(file)

    async def import_content(db: Database) -> CsvImportReport:
        return await people_import.import_people(
            db, content, audit_actor(), may_give_admin=True, dry_run=dry_run
        )

    print_import_report(file, run_with_database(import_content), as_json=as_json)


@app.command(
    "list",
    epilog=epilog(
        "homeroom people list lovelace",
        "homeroom people list --manager mara --group ward-3 --json",
    ),
)
def list_(
    text: Annotated[
        str,
        typer.Argument(
            metavar="[TEXT]",
            help="Each word is the beginning of an id, a part of a name or a whole address.",
        ),
    ] = "",
    manager: Annotated[
        str | None, typer.Option("--manager", help="Only people with this manager.")
    ] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only people in this group.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Most people.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List people by id, with their addresses masked."""

    async def read_people(db: Database) -> list[Person]:
        async with db.read() as tx:
            return await people_api.search(
                tx, text=text, manager_id=manager, group_id=group, count=limit
            )

    rows = [
        (
            each.id,
            f"{each.given_name} {each.family_name}",
            None if each.email is None else people_api.mask_email(each.email),
            each.manager_id,
            "suspended" if each.suspended_at is not None else "active",
        )
        for each in run_with_database(read_people)
    ]
    if as_json:
        names = ("userId", "name", "email", "managerId", "state")
        print_json({"items": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    print_table(
        ("USER", "NAME", "E-MAIL", "MANAGER", "STATE"),
        [[cell or "-" for cell in row] for row in rows],
        "No person matches.",
    )


@app.command("suspend", epilog=epilog("homeroom people suspend ada", codes=(4,)))
def suspend(user_id: UserIdArgument) -> None:
    """Suspend a person: no message is sent to them.

    What they do is recorded as before.
    """
    _set_suspended(user_id, suspended=True)
    print_text(f"{user_id} is suspended and gets no messages.")


@app.command("resume", epilog=epilog("homeroom people resume ada", codes=(4,)))
def resume(user_id: UserIdArgument) -> None:
    """End the suspension of a person: messages from now on are sent again."""
    _set_suspended(user_id, suspended=False)
    print_text(f"{user_id} gets messages again.")


def _set_suspended(user_id: str, *, suspended: bool) -> None:
    async def store(db: Database) -> None:
        async with db.write() as tx:
            await people_api.set_suspended(tx, user_id, suspended, audit_actor())

    run_with_database(store)


@app.command(
    "export",
    epilog=epilog(
        "homeroom people export ada",
        "homeroom people export ada --to ada.json",
        codes=(4, 5),
    ),
)
def export(
    user_id: UserIdArgument,
    to: Annotated[
        Path | None, typer.Option("--to", help="The file to write; it must not exist yet.")
    ] = None,
) -> None:
    """Print all data of a person as JSON, by table, or write it to a file."""

    async def export_data(db: Database) -> dict[str, Any]:
        return await personal_data.PERSONAL_DATA.export(db, user_id, audit_actor())

    exported = run_with_database(export_data)
    text = msgspec_json.format(msgspec_json.encode(exported)).decode()
    if to is None:
        print_text(text)
        return
    try:
        to.touch(mode=0o600, exist_ok=False)
    except FileExistsError as error:
        raise Conflict(f"{to} exists already.", hint="Choose another file.") from error
    except OSError as error:
        raise BadRequest(f"{to} cannot be written: {error.strerror}.") from error
    to.write_text(text + "\n", encoding="utf-8")
    records = exported["records"]
    rows = sum(len(each) for each in records.values())
    print_to_stderr(f"{to} holds {pluralize(rows, 'row')} of {pluralize(len(records), 'table')}.")


@app.command(
    "erase",
    epilog=epilog("homeroom people erase ada", "homeroom people erase ada --yes", codes=(4,)),
)
def erase(
    user_id: UserIdArgument,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Erase a person in all tables of this database. This cannot be undone.

    Texts that other people wrote stay, with a pseudonym for the name. Data that was sent to
    partners, and older backups, have to be erased there.
    """
    confirm(f"Erase {user_id}? This cannot be undone.", yes=yes)

    async def erase_data(db: Database) -> dict[str, int]:
        return await personal_data.PERSONAL_DATA.erase(db, user_id, audit_actor())

    rows = run_with_database(erase_data)
    if as_json:
        print_json({"userId": user_id, "rows": rows})
        return
    tables = pluralize(len(rows), "table")
    print_text(f"Erased {user_id}: {pluralize(sum(rows.values()), 'row')} of {tables}.")
