"""Cursors of changes after a restore and a copy: refused, since numbers begin anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.database import database_at, url_of

from homeroom.bootstrap import database_commands
from homeroom.changes import api as changes
from homeroom.changes.api import ChangeFeed, CursorGone
from homeroom.db.database import Database
from homeroom.settings import load

pytestmark = [pytest.mark.anyio, pytest.mark.service]


@asynccontextmanager
async def following(place: Path | str) -> AsyncIterator[tuple[Database, ChangeFeed]]:
    """Open a database as an application does, with a feed without data."""
    db = database_at(place)
    await db.open()
    try:
        await changes.begin_epoch_after_move(db)
        yield db, ChangeFeed(db, {})
    finally:
        await db.close()


async def change(db: Database, id: str) -> None:
    async with db.write() as tx:
        changes.record(tx, changes.COMPLETIONS, [(id, "ada")])


async def read_ids(feed: ChangeFeed, cursor: str | None = None) -> tuple[list[str], str]:
    page = await feed.read(cursor, [], 100)
    return [each.record_id for each, _ in page.items], page.next_cursor


async def check_start_anew(place: Path | str, old: str) -> None:
    """Expect that an old cursor is gone, and that new ones see every new change once."""
    async with following(place) as (db, feed):
        with pytest.raises(CursorGone):
            await feed.read(old, [], 100)
        [ids, cursor] = await read_ids(feed)
        assert ids == []
        await change(db, "new")
        assert (await read_ids(feed, cursor))[0] == ["new"]
        assert (await read_ids(feed))[0] == ["new"]


async def test_a_restore_begins_an_epoch(database: Path | str, tmp_path: Path) -> None:
    settings = load(database_url=url_of(database), data_dir=tmp_path)
    file = tmp_path / "monday.zip"
    async with following(database) as (db, feed):
        await change(db, "old")
        await asyncio.to_thread(database_commands.back_up_database, settings, file)
        await change(db, "lost by the restore")
        _, cursor = await read_ids(feed)
        same, _ = await read_ids(feed, cursor)
        assert same == []
    await asyncio.to_thread(database_commands.restore_database, settings, file, force=True)
    await check_start_anew(database, cursor)


@pytest.mark.parametrize("source", ["sqlite", "postgresql"])
async def test_a_copy_begins_an_epoch_and_the_source_keeps_its_own(
    source: str, database_file: Path, postgres_url: str, tmp_path: Path
) -> None:
    places: tuple[Path | str, Path | str] = (database_file, postgres_url)
    if source == "postgresql":
        places = (postgres_url, tmp_path / "copy.db")
    async with following(places[0]) as (db, feed):
        await change(db, "old")
        _, cursor = await read_ids(feed)
    ours, theirs = (load(database_url=url_of(place)) for place in places)
    await asyncio.to_thread(database_commands.copy_database, ours, theirs, rehearse=False)
    await check_start_anew(places[1], cursor)
    async with following(places[0]) as (_, feed):
        assert (await read_ids(feed, cursor))[0] == []


async def test_a_database_that_was_copied_by_hand_begins_an_epoch(
    postgres_url: str, request: pytest.FixtureRequest
) -> None:
    """PostgreSQL names another database, though the rows are the same."""
    server = request.getfixturevalue("postgres")
    async with following(postgres_url) as (db, feed):
        await change(db, "old")
        _, cursor = await read_ids(feed)
    name = server.make_database(postgres_url.rpartition("/")[2].partition("?")[0])
    try:
        await check_start_anew(server.url(name), cursor)
    finally:
        server.drop_database(name)
