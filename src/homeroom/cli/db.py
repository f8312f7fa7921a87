"""``homeroom db``: upgrade, back up, restore, copy, verify and seed the database."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from homeroom.cli.application import (
    audit_actor,
    database_exists,
    database_unavailable,
    describe_schema,
    read_schema_state,
    read_seal,
    require_database,
    require_unsealed,
    schema_fault,
)
from homeroom.cli.db_seed import seed
from homeroom.cli.finding import disk_finding
from homeroom.cli.group import JsonOption, LazyModule, YesOption, command_group, epilog
from homeroom.cli.terminal import confirm, pluralize, print_json, print_text, print_to_stderr
from homeroom.errors import BadRequest, ConfigurationError, HomeroomError, Unavailable

if TYPE_CHECKING:
    from sqlalchemy import exc as database_errors

    from homeroom.bootstrap import database, database_commands
    from homeroom.settings import Settings
else:
    database = LazyModule("homeroom.bootstrap.database")
    database_commands = LazyModule("homeroom.bootstrap.database_commands")
    database_errors = LazyModule("sqlalchemy.exc")

app = command_group("Upgrade, back up, restore, copy, verify and seed the database.")


@app.callback()
def _install_signal_handler() -> None:
    signal.signal(signal.SIGTERM, _exit_on_signal)


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    """End as after Ctrl-C: remove partial files, stop tools of PostgreSQL.

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
def upgrade(as_json: JsonOption = False) -> None:
    """Create the database, or upgrade it to this release's schema.

    A SQLite file that has to change is backed up beside itself first.
    """
    settings = database.load_settings()
    database_name = settings.database_name
    before = read_schema_state(settings).current
    with _translated_database_errors(settings):
        saved = database_commands.upgrade_database(settings)
    after = require_database(settings)
    if saved is not None:
        print_to_stderr(f"Backed up before: {saved}")
    if as_json:
        print_json(
            {
                "database": database_name,
                "before": before,
                "after": after.current,
                "backup": None if saved is None else str(saved),
            }
        )
    elif before == after.current:
        print_text(
            f"{database_name} is {describe_schema(after)}{'' if after.is_newer else ' already'}."
        )
    else:
        print_text(f"{database_name}: {before or 'nothing'} -> {after.current}")


@app.command("check", epilog=epilog("homeroom db check", "homeroom db check --json"))
def check(as_json: JsonOption = False) -> None:
    """Compare the database with this release's schema; exit 78 on a fault or seal.

    It shows the free space of the disk too, and exits with 3 if that is full or read-only.
    """
    settings = database.load_settings()
    disk = disk_finding(settings)
    if as_json:
        exists = database_exists(settings)
        state = read_schema_state(settings)
        fault = schema_fault(state)
        sealed = exists and fault is None and read_seal(settings) is not None
        print_json(
            {
                "database": settings.database_name,
                "exists": exists,
                "current": state.current,
                "head": state.head,
                "differences": list(state.differences),
                "disk": None if disk is None else {"status": disk.status, "detail": disk.what},
                "sealed": sealed,
                "ok": exists and fault is None and not sealed,
            }
        )
    state = require_database(settings)
    require_unsealed(settings)
    if not as_json:
        suffix = "" if state.is_newer else ", as this release needs"
        print_text(f"{settings.database_name} is {describe_schema(state)}{suffix}.")
        if disk is not None:
            print_text(disk.what)
    if disk is not None and disk.status == "error":
        raise Unavailable(disk.what, hint=disk.fix)


@app.command(
    "backup",
    epilog=epilog(
        "homeroom db backup homeroom-monday.zip",
        "homeroom db backup /backups/homeroom-$(date +%F).zip --json",
        codes=(5,),
    ),
)
def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write; it must not exist yet.")],
    as_json: JsonOption = False,
) -> None:
    """Write the database and secret files into one file, while the server runs."""
    settings = database.load_settings()
    with _translated_database_errors(settings):
        backup_manifest = database_commands.back_up_database(settings, file)
    if as_json:
        print_json(
            {
                "file": str(file),
                "database": settings.database_name,
                "madeAt": backup_manifest.made_at,
                "revision": backup_manifest.revision,
                "tables": backup_manifest.tables,
                "totals": backup_manifest.totals,
                "keys": len(backup_manifest.keys),
            }
        )
        return
    print_text(f"{file} holds {settings.database_name} at revision {backup_manifest.revision}:")
    counts = _count_summary(backup_manifest.tables, backup_manifest.totals)
    print_text(f"{counts}, {pluralize(len(backup_manifest.keys), 'secret file')}.")


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
    as_json: JsonOption = False,
) -> None:
    """Replace the database by a backup, all or nothing. No process may be using it."""
    settings = database.load_settings()
    with _translated_database_errors(settings):
        restored = database_commands.restore_database(settings, file, force=force)
    manifest = restored.manifest
    if as_json:
        print_json(
            {
                "database": settings.database_name,
                "madeAt": manifest.made_at,
                "revision": manifest.revision,
                "tables": manifest.tables,
                "totals": manifest.totals,
                "kept": None if restored.previous is None else str(restored.previous),
                "erasedAgain": restored.erased,
            }
        )
        return
    print_text(f"{settings.database_name} has the state of {manifest.made_at}:")
    print_text(f"{_count_summary(manifest.tables, manifest.totals)}.")
    if restored.erased is None:
        print_text(
            "The people erased since then are not known: there was no readable database here."
        )
        print_text("Erase them again, by your own records: homeroom people erase USER")
    elif restored.erased:
        print_text(
            f"{pluralize(restored.erased, 'person', 'people')} erased since then: erased again."
        )
    if restored.previous is not None:
        print_text(f"The database before is at {restored.previous}")
    print_text("Start it only if the installation that the backup is of does not run any more.")
    state = read_schema_state(settings)
    if state.current != state.head and not state.is_newer:
        print_text("It is of an earlier release. Upgrade it with: homeroom db upgrade")


@app.command(
    "verify",
    epilog=epilog("homeroom db verify", "homeroom db verify homeroom-monday.zip --json"),
)
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="A backup; without one the database itself.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a backup, or the database in use: structure, rows, sums, ledger."""
    settings = database.load_settings()
    if file is None and not database_exists(settings):
        raise database.missing_database(settings)
    with _translated_database_errors(settings):
        result = database_commands.verify_database(settings, file)
    name = settings.database_name if file is None else str(file)
    if as_json:
        print_json(
            {
                "what": name,
                "ok": not result.faults,
                "madeAt": result.made_at,
                "revision": result.counts.revision,
                "tables": dict(result.counts.tables),
                "totals": dict(result.counts.totals),
                "faults": list(result.faults),
            }
        )
    else:
        for fault in result.faults:
            print_text(fault)
    if result.faults:
        raise HomeroomError(
            f"{name} failed the verification ({pluralize(len(result.faults), 'fault')})."
        )
    if not as_json:
        counts = _count_summary(result.counts.tables, result.counts.totals)
        print_text(f"{name} passed the verification: {counts}.")


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
            "--rehearse", help="Copy a snapshot while the source is used, then discard the copy."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy all data from SQLite to PostgreSQL, or back, and compare both.

    The source must not be in use, is locked meanwhile, and is sealed at the end: only the target
    may run then. The target must be empty, or be an earlier copy that no process has used. If the
    command is interrupted, run it again: it finishes the copy.
    """
    settings, target = database.load_settings(), database.load_settings(database_url=to)
    try:
        _ = target.database_location
    except ConfigurationError as error:
        raise BadRequest("--to names no database.", hint=error.hint) from error
    if not database_exists(settings):
        raise database.missing_database(settings)
    with _translated_database_errors(settings):
        copied = database_commands.copy_database(settings, target, rehearse=rehearse)
    if as_json:
        print_json(
            {
                "from": settings.database_name,
                "to": target.database_name,
                "rehearsed": copied.rehearsed,
                "tables": {name: tally.rows for name, tally in copied.tables.items()},
                "totals": dict(copied.totals),
            }
        )
        return
    rows = {name: tally.rows for name, tally in copied.tables.items()}
    counts = _count_summary(rows, copied.totals)
    print_text(f"{settings.database_name} -> {target.database_name}: {counts}.")
    print_text("All copied rows were read again and equal the source.")
    if rehearse:
        print_text("That was a rehearsal: the copy was discarded, and the target is empty again.")
        return
    print_text("Set HOMEROOM_DATABASE_URL to the target for all processes, and start them again.")
    print_text(
        f"{settings.database_name} is sealed: no process starts on it, because its jobs and"
        " messages would go out a second time."
    )


@app.command(
    "unseal",
    epilog=epilog("homeroom db unseal", "homeroom db unseal --yes"),
)
def unseal(yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Let a database run again that `homeroom db copy` has sealed.

    First make sure that the other database of the copy does not run and never will: two that run
    send every message twice. The audit trail gets an entry.
    """
    settings = database.load_settings()
    name = settings.database_name
    with _translated_database_errors(settings):
        sealed = read_seal(settings)
        if sealed is not None:
            print_to_stderr(sealed.message)
            confirm(f"Is it sure that {sealed.details['other']} does not run?", yes=yes)
            database_commands.unseal_database(settings, audit_actor())
    if as_json:
        seal = {} if sealed is None else sealed.details
        print_json({"database": name, "unsealed": sealed is not None, **seal})
    elif sealed is None:
        print_text(f"{name} is not sealed.")
    else:
        print_text(f"{name} may run again. {sealed.details['other']} must not.")


app.command(
    "seed",
    epilog=epilog(
        "HOMEROOM_DATA_DIR=school homeroom db seed",
        "HOMEROOM_DATA_DIR=school homeroom db seed --size large",
        "homeroom db seed --learners 500 --seed=7 --json",
        codes=(5,),
    ),
)(seed)


@contextmanager
def _translated_database_errors(settings: Settings) -> Iterator[None]:
    """Translate errors of the database and of files to ``HomeroomError``."""
    try:
        yield
    except database_errors.SQLAlchemyError as error:
        raise database_unavailable(settings, error) from error
    except OSError as error:  # the disk of a backup may be full or missing
        file = error.filename or settings.database_name
        raise Unavailable(f"{file}: {error.strerror or error}.") from error


def _count_summary(tables: Mapping[str, int], totals: Mapping[str, int]) -> str:
    """Return counts and sums as text."""
    rows = pluralize(sum(tables.values()), "row")
    parts = [f"{rows} in {pluralize(len(tables), 'table')}"]
    return ", ".join([*parts, *(f"{total:,} {name}" for name, total in totals.items())])
