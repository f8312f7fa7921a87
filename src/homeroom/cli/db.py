"""``homeroom db``: bring the database to this release, back it up, restore it, move it."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from sqlalchemy.exc import SQLAlchemyError

from homeroom import wiring
from homeroom.cli.group import Json, epilog, group
from homeroom.cli.house import (
    exists,
    need_database,
    schema_fault,
    standing,
    state_of,
    unreadable,
)
from homeroom.cli.output import counted, note, print_json, say
from homeroom.errors import BadRequest, ConfigurationError, HomeroomError, Unavailable
from homeroom.wiring import Settings, load_settings, upgrade_database

app = group("Bring the database up to date, back it up, restore it, move it, judge it.")


@app.callback()
def _db() -> None:
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    """End as after Ctrl-C: what is half written is taken away, and no tool of PostgreSQL's stays.

    Raises ``SystemExit`` with the exit code that a shell shows for the signal.
    """
    raise SystemExit(128 + number)


@app.command(
    "upgrade",
    epilog=epilog(
        "homeroom db upgrade",
        "HOMEROOM_DATABASE_URL=sqlite:////srv/homeroom/homeroom.db homeroom db upgrade",
        "HOMEROOM_DATABASE_URL=postgresql://homeroom@db.example/homeroom homeroom db upgrade",
    ),
)
def upgrade(as_json: Json = False) -> None:
    """Make the database, or bring it to this release's schema. Doing it again changes nothing.

    A SQLite file that is going to change is backed up beside itself first.
    """
    settings = load_settings()
    place = settings.database_name
    before = state_of(settings).current
    with _readable(settings):
        kept = upgrade_database(settings)
    after = need_database(settings)
    if kept is not None:
        note(f"Backed up before: {kept}")
    if as_json:
        print_json(
            {
                "database": place,
                "before": before,
                "after": after.current,
                "backup": None if kept is None else str(kept),
            }
        )
    elif before == after.current:
        say(f"{place} is {standing(after)}{'' if after.is_newer else ' already'}.")
    else:
        say(f"{place}: {before or 'nothing'} -> {after.current}")


@app.command("check", epilog=epilog("homeroom db check", "homeroom db check --json"))
def check(as_json: Json = False) -> None:
    """Compare the database with this release's schema, changing nothing; exit 78 if it differs."""
    settings = load_settings()
    if as_json:
        found = exists(settings)
        state = state_of(settings)
        print_json(
            {
                "database": settings.database_name,
                "exists": found,
                "current": state.current,
                "head": state.head,
                "differences": list(state.differences),
                "ok": found and schema_fault(state) is None,
            }
        )
    state = need_database(settings)
    if not as_json:
        needed = "" if state.is_newer else ", as this release needs"
        say(f"{settings.database_name} is {standing(state)}{needed}.")


@app.command(
    "backup",
    epilog=epilog(
        "homeroom db backup homeroom-monday.zip",
        "homeroom db backup /backups/homeroom-$(date +%F).zip --json",
        codes=(5,),
    ),
)
def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write; it must not be there yet.")],
    as_json: Json = False,
) -> None:
    """Write the database and secret files into one file, while they are in use."""
    settings = load_settings()
    with _readable(settings):
        made = wiring.back_up(settings, file)
    if as_json:
        print_json(
            {
                "file": str(file),
                "database": settings.database_name,
                "madeAt": made.made_at,
                "revision": made.revision,
                "tables": made.tables,
                "totals": made.totals,
                "keys": len(made.keys),
            }
        )
        return
    say(f"{file} holds {settings.database_name} at revision {made.revision}:")
    say(f"{_stock(made.tables, made.totals)}, {counted(len(made.keys), 'secret file')}.")


@app.command(
    "restore",
    epilog=epilog(
        "homeroom db restore homeroom-monday.zip",
        "homeroom db restore homeroom-monday.zip --force",
        codes=(5,),
    ),
)
def restore(
    file: Annotated[Path, typer.Argument(help="The backup to read.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace a database that holds rows.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a backup in the place of the database, all of it or nothing, with nobody using it."""
    settings = load_settings()
    with _readable(settings):
        done = wiring.restore(settings, file, force=force)
    held = done.manifest
    if as_json:
        print_json(
            {
                "database": settings.database_name,
                "madeAt": held.made_at,
                "revision": held.revision,
                "tables": held.tables,
                "totals": held.totals,
                "kept": None if done.kept is None else str(done.kept),
                "erasedAgain": done.erased,
            }
        )
        return
    say(f"{settings.database_name} is as it was at {held.made_at}:")
    say(f"{_stock(held.tables, held.totals)}.")
    if done.erased is None:
        say("Whom the database had erased since then is not known: it could not be asked.")
        say("Repeat, by your own records: homeroom people erase USER")
    elif done.erased:
        say(f"{counted(done.erased, 'person', 'people')} erased since then: erased again.")
    if done.kept is not None:
        say(f"What was there before is kept as {done.kept}")
    state = state_of(settings)
    if state.current != state.head and not state.is_newer:
        say("It is of an earlier release. Bring it up to date with: homeroom db upgrade")


@app.command(
    "verify",
    epilog=epilog("homeroom db verify", "homeroom db verify homeroom-monday.zip --json"),
)
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="A backup; without one the database itself.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge a backup, or the database in use: structure, rows, sums, ledger. Exit 1 if unsound."""
    settings = load_settings()
    if file is None and not exists(settings):
        raise ConfigurationError(f"There is no database at {settings.database_name}.")
    with _readable(settings):
        found = wiring.verify(settings, file)
    what = settings.database_name if file is None else str(file)
    if as_json:
        print_json(
            {
                "what": what,
                "ok": not found.faults,
                "madeAt": found.made_at,
                "revision": found.held.revision,
                "tables": dict(found.held.tables),
                "totals": dict(found.held.totals),
                "faults": list(found.faults),
            }
        )
    else:
        for fault in found.faults:
            say(fault)
    if found.faults:
        raise HomeroomError(f"{what} is not sound ({counted(len(found.faults), 'fault')}).")
    if not as_json:
        say(f"{what} is sound: {_stock(found.held.tables, found.held.totals)}.")


@app.command(
    "copy",
    epilog=epilog(
        "homeroom db copy --to postgresql://homeroom@db.example/homeroom --rehearse",
        "homeroom db copy --to postgresql://homeroom@db.example/homeroom",
        "homeroom db copy --to sqlite:////srv/homeroom/homeroom.db",
        codes=(5,),
    ),
)
def copy(
    to: Annotated[
        str, typer.Option("--to", help="The other database, as HOMEROOM_DATABASE_URL names it.")
    ],
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse", help="Copy a snapshot while the source is used, and keep nothing."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy everything from SQLite to PostgreSQL, or back, and compare what arrived.

    The source must not be in use, and nobody can start it meanwhile. The target must be empty, or
    be an earlier copy that nobody has used.
    """
    settings, target = load_settings(), load_settings(database_url=to)
    try:
        _ = target.database_place
    except ConfigurationError as error:
        raise BadRequest("--to names no database.", hint=error.hint) from error
    if not exists(settings):
        raise ConfigurationError(f"There is no database at {settings.database_name}.")
    with _readable(settings):
        done = wiring.copy_database(settings, target, rehearse=rehearse)
    if as_json:
        print_json(
            {
                "from": settings.database_name,
                "to": target.database_name,
                "rehearsed": done.rehearsed,
                "tables": {name: tally.rows for name, tally in done.tables.items()},
                "totals": dict(done.totals),
            }
        )
        return
    rows = {name: tally.rows for name, tally in done.tables.items()}
    say(f"{settings.database_name} -> {target.database_name}: {_stock(rows, done.totals)}.")
    say("Everything that arrived was read again, and is what was sent.")
    if rehearse:
        say("That was a rehearsal: nothing was kept, and the target is as empty as before.")
        return
    say("Set HOMEROOM_DATABASE_URL to the target now, everywhere, and start again.")
    say(
        f"Do not start {settings.database_name} any more: its schedules would fire, and its jobs"
        " run, a second time."
    )


@contextmanager
def _readable(settings: Settings) -> Iterator[None]:
    """Say of a database that cannot be read which one it is, and why."""
    try:
        yield
    except SQLAlchemyError as error:
        raise unreadable(settings, error) from error
    except OSError as error:  # of whichever file: a backup's disk may be full, or not be there
        file = error.filename or settings.database_name
        raise Unavailable(f"{file}: {error.strerror or error}.") from error


def _stock(tables: Mapping[str, int], totals: Mapping[str, int]) -> str:
    """Return counts and sums in words."""
    rows = counted(sum(tables.values()), "row")
    told = [f"{rows} in {counted(len(tables), 'table')}"]
    return ", ".join([*told, *(f"{total:,} {name}" for name, total in totals.items())])
