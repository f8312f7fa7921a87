"""Reach the configured database, or say how to get one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from homeroom.errors import ConfigurationError, HomeroomError, Unavailable
from homeroom.http import log
from homeroom.http.server import run_loop
from homeroom.wiring import House, Settings, database_state, load_settings, open_house

Found = TypeVar("Found")
MEND = "homeroom db upgrade"


class Schema(Protocol):
    """Where a database stands, beside this release."""

    @property
    def current(self) -> str | None:
        """Return its revision; None where it has no tables."""

    @property
    def head(self) -> str:
        """Return the revision of this release."""

    @property
    def differences(self) -> tuple[str, ...]:
        """Return what differs though the revision is right."""

    @property
    def is_newer(self) -> bool:
        """Say whether a later release made it."""


def in_house(work: Callable[[House], Awaitable[Found]]) -> Found:
    """Run something with the configured database open, and return what it returns.

    Raises ``ConfigurationError`` for a database that is not there or not at this release's schema,
    with the command that mends it; ``Unavailable`` for one that cannot be read.
    """
    settings = load_settings()
    # what the rooms log goes to standard error, so that standard output holds the answer alone
    log.configure("warning", settings.log_format)

    async def run() -> Found:
        async with open_house(settings) as house:
            return await work(house)

    try:
        return run_loop(run())
    except SQLAlchemyError as error:
        raise unreadable(settings, error) from error


def state_of(settings: Settings) -> Schema:
    """Compare the database with this release; raise ``Unavailable`` if it cannot be read."""
    try:
        return database_state(settings)
    except (SQLAlchemyError, OSError) as error:
        raise unreadable(settings, error) from error


def unreadable(settings: Settings, error: Exception) -> HomeroomError:
    """Return the error for a database that cannot be read."""
    reason = str(getattr(error, "orig", None) or error)
    hint = "Set HOMEROOM_DATABASE_URL to a file of Homeroom's, or put a backup in its place."
    if not settings.is_embedded:
        hint = "Look at HOMEROOM_DATABASE_URL, and at the log of the PostgreSQL server."
    return Unavailable(
        f"The database {settings.database_name} cannot be used: {reason}.", hint=hint
    )


def need_database(settings: Settings) -> Schema:
    """Return how the database stands; raise ``ConfigurationError`` unless it can be used.

    The error says the command that mends it. Raises ``Unavailable`` for a file that is no database.
    """
    if not exists(settings):
        raise ConfigurationError(
            f"There is no database at {settings.database_name}.", hint=f"Make it with: {MEND}"
        )
    state = state_of(settings)
    wrong = schema_fault(state)
    if wrong is not None:
        raise ConfigurationError(wrong[0], hint=wrong[1])
    return state


def standing(state: Schema) -> str:
    """Return where a usable database stands, for the end of a sentence."""
    if state.is_newer:
        return f"at revision {state.current}, of a later release; this one works with it"
    return f"at revision {state.current}"


def exists(settings: Settings) -> bool:
    """Say whether there is a file to look at; a database on a server has to be asked."""
    place = settings.database_place
    return not isinstance(place, Path) or place.exists()


def schema_fault(state: Schema) -> tuple[str, str] | None:
    """Return what is wrong with a database's schema and how to mend it, or None."""
    if state.current is None:
        return ("The database has no tables yet.", f"Make them with: {MEND}")
    if state.is_newer:
        return None
    if state.current != state.head:
        return (
            f"The database is at revision {state.current}, this release needs {state.head}.",
            f"Bring it up to date with: {MEND}",
        )
    if state.differences:
        return (
            "The tables differ from what this release made: " + "; ".join(state.differences[:5]),
            "Something else has changed them. Undo that, or go back to a backup.",
        )
    return None
