"""The databases that tests run on: each is named by what opens it, a file or a URL."""

from __future__ import annotations

from pathlib import Path

from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.db.postgres import PostgresDatabase
from homeroom.db.sqlite import SqliteDatabase

DATABASES = {"sqlite": "database_file", "postgresql": "postgres_url"}
"""By the name of a database: the fixture that gives a fresh, migrated one."""


def database_at(place: Path | str, clock: Clock | None = None) -> Database:
    """Return the database at a file or a URL, which is still to be opened."""
    clock = clock or Clock()
    if isinstance(place, Path):
        return SqliteDatabase(place, clock)
    return PostgresDatabase(place, clock)


def url_of(place: Path | str) -> str:
    """Return what HOMEROOM_DATABASE_URL is for a file or a URL."""
    return f"sqlite:///{place}" if isinstance(place, Path) else place
