"""``homeroom db``: bring the database to this release, and compare it with it."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from homeroom.cli.group import Json, epilog, group
from homeroom.cli.house import (
    exists,
    need_database,
    schema_fault,
    standing,
    state_of,
    unreadable,
)
from homeroom.cli.output import print_json, say
from homeroom.wiring import load_settings, upgrade_database

app = group("Bring the database up to date, and compare it with this release.")


@app.command(
    "upgrade",
    epilog=epilog(
        "homeroom db upgrade",
        "HOMEROOM_DATABASE_URL=sqlite:////srv/homeroom/homeroom.db homeroom db upgrade",
        "HOMEROOM_DATABASE_URL=postgresql://homeroom@db.example/homeroom homeroom db upgrade",
    ),
)
def upgrade(as_json: Json = False) -> None:
    """Make the database, or bring it to this release's schema. Doing it again changes nothing."""
    settings = load_settings()
    place = settings.database_name
    before = state_of(settings).current
    try:
        upgrade_database(settings)
    except (SQLAlchemyError, OSError) as error:
        raise unreadable(settings, error) from error
    after = need_database(settings)
    if as_json:
        print_json({"database": place, "before": before, "after": after.current})
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
