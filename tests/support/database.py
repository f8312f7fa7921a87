"""The databases that tests run on, each named by its file or its URL."""

from __future__ import annotations

from pathlib import Path

from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.db.postgres.database import PostgresDatabase
from homeroom.db.sqlite.database import SqliteDatabase

DATABASES = {"sqlite": "database_file", "postgresql": "postgres_url"}
"""The fixture that returns a fresh, migrated database, by the kind of the database."""


def database_at(place: Path | str, clock: Clock | None = None) -> Database:
    """Return the database at a file or a URL, which is still to be opened."""
    clock = clock or Clock()
    if isinstance(place, Path):
        return SqliteDatabase(place, clock)
    return PostgresDatabase(place, clock)


def place_of(argument: str) -> Path | str:
    """Return the file or the URL that a command-line argument names."""
    return argument if "://" in argument else Path(argument)


def url_of(place: Path | str) -> str:
    """Return what HOMEROOM_DATABASE_URL is for a file or a URL."""
    return f"sqlite:///{place}" if isinstance(place, Path) else place
