"""Copy a whole installation from SQLite to PostgreSQL, or back, and compare what arrived.

Rows are copied as they are, jobs and their leases included, with every process of the source
stopped: the source is held so that none can start. What arrives is one transaction, or one file
that gets its name at the end, so that an interrupted copy leaves nothing (decision 0018).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from sqlalchemy import Table

from homeroom.db import archive, migrate, sqlite_file
from homeroom.db.copy_end import Batches, End, FileEnd, ServerEnd, tables
from homeroom.db.postgres import connect
from homeroom.db.postgres_fault import mapped
from homeroom.db.postgres_tx import storable
from homeroom.db.proof import Proof
from homeroom.db.sqlite_tx import mapped as sqlite_mapped
from homeroom.errors import BadRequest, ConfigurationError, Conflict, HomeroomError

_MARK = "filled by homeroom db copy: "
_NUL = "\\x00"
_WHOLE = 1 << 64


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows a table has, and a number that stands for all they hold, in any order."""

    rows: int = 0
    digest: int = 0


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied; all of it was read again where it arrived, and is the same there."""

    tables: Mapping[str, Tally]
    totals: Mapping[str, int]
    rehearsed: bool
    """Nothing was kept."""

    @property
    def rows(self) -> int:
        """Return how many rows all tables have together."""
        return sum(tally.rows for tally in self.tables.values())


class Differs(HomeroomError):
    """What arrived is not what was sent, so nothing was kept."""

    code = "copy_differs"


@sqlite_mapped()
def copy(source: Path | str, target: Path | str, proof: Proof, *, rehearse: bool) -> Copied:
    """Copy all tables from a file to a server or the other way, and compare them.

    ``rehearse`` copies a snapshot of a source that may be in use, compares it and keeps nothing.
    Raises ``Conflict`` for a source or a target that is in use, and for a target that holds
    anything but an earlier copy that nobody has changed; ``ConfigurationError`` for a schema of
    another release; ``Differs``.
    """
    if isinstance(source, Path) == isinstance(target, Path):
        raise BadRequest(
            "A copy leads from a SQLite file to a PostgreSQL database, or the other way.",
            hint="Between two of one kind, use: homeroom db backup FILE, homeroom db restore FILE",
        )
    _need_head(source, "source")
    if isinstance(target, Path):
        archive.refuse_existing(target)
    else:
        if migrate.state(target).current is None:
            migrate.upgrade(target)
        _need_head(target, "target")
    return asyncio.run(_copy(source, target, proof, rehearse))


def _need_head(place: Path | str, which: str) -> None:
    state = migrate.state(place)
    if not state.is_current:
        raise ConfigurationError(
            f"The {which} is at revision {state.current}, this release needs {state.head}"
            + (f" ({state.differences[0]})." if state.differences else "."),
            hint=f"Bring the {which} there with: homeroom db upgrade",
        )


async def _copy(source: Path | str, target: Path | str, proof: Proof, rehearse: bool) -> Copied:
    async with _reading(source, rehearse) as ours, _filling(target, rehearse) as theirs:
        tallies = {table.name: await _fill(ours, theirs, table) for table in tables()}
        await theirs.go_on_after(await ours.numbers())
        totals = {each.name: await ours.one(each.sql) for each in proof.totals}
        differs = [
            f"{table.name} ({tallies[table.name].rows} rows)"
            for table in tables()
            if await tally(theirs, table) != tallies[table.name]
        ]
        for each in proof.totals:
            if await theirs.one(each.sql) != totals[each.name]:
                differs.append(each.name)
        if differs:
            raise Differs(
                f"What arrived is not what was sent, so nothing was kept: {', '.join(differs)}."
            )
        if isinstance(theirs, ServerEnd):
            await theirs.mark(_mark(tallies))
    return Copied(tallies, totals, rehearse)


async def _fill(ours: End, theirs: End, table: Table) -> Tally:
    """Copy one table and return what was read."""
    count = _Count()
    await theirs.put(table, count.through(ours.batches(table)))
    return count.tally


async def tally(end: End, table: Table) -> Tally:
    """Read a whole table and return what stands for it."""
    count = _Count()
    async for _ in count.through(end.batches(table)):
        pass
    return count.tally


class _Count:
    """Counts and digests rows that pass; PostgreSQL's text holds no NUL, so none passes."""

    def __init__(self) -> None:
        self.tally = Tally()

    async def through(self, batches: Batches) -> Batches:
        rows = digest = 0
        async for batch in batches:
            passed = []
            for row in batch:
                text = repr(row)
                if _NUL in text:
                    row = tuple(storable(row))
                    text = repr(row)
                passed.append(row)
                hashed = blake2b(text.encode(), digest_size=8).digest()
                digest = (digest + int.from_bytes(hashed)) % _WHOLE
            rows += len(passed)
            yield passed
        self.tally = Tally(rows, digest)


def _mark(tallies: Mapping[str, Tally]) -> str:
    """Return what tells later whether a copy is still as it was made."""
    text = repr(sorted((name, tally.rows, tally.digest) for name, tally in tallies.items()))
    return _MARK + blake2b(text.encode(), digest_size=16).hexdigest()


@asynccontextmanager
async def _reading(place: Path | str, rehearse: bool) -> AsyncIterator[End]:
    """Open the source: held so that nobody else writes, or as a snapshot for a rehearsal."""
    if isinstance(place, Path):
        with ExitStack() as stack:
            if rehearse:
                opened = stack.enter_context(
                    closing(sqlite3.connect(place, isolation_level=None, timeout=60))
                )
            else:
                opened = stack.enter_context(sqlite_file.alone(place))
            opened.execute("BEGIN")
            yield FileEnd(opened)
        return
    async with _connected(place) as server:
        if not rehearse:
            await server.refuse_served()
        await server.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if not rehearse:
            await server.lock("SHARE")
        yield server


@asynccontextmanager
async def _filling(place: Path | str, rehearse: bool) -> AsyncIterator[End]:
    """Open the target, empty; what was filled in is kept if the block ends well."""
    if isinstance(place, Path):
        async with _new_file(place, rehearse) as end:
            yield end
        return
    async with _connected(place) as server:
        await server.refuse_served()
        await server.connection.execute("BEGIN")
        await server.lock("ACCESS EXCLUSIVE")
        await _make_empty(server)
        yield server
        with mapped():
            await server.connection.execute("ROLLBACK" if rehearse else "COMMIT")


@asynccontextmanager
async def _new_file(place: Path, rehearse: bool) -> AsyncIterator[End]:
    part = archive.beside(place, "copy")
    try:
        part.touch(mode=0o600)
        await asyncio.to_thread(migrate.upgrade, part)
        with closing(sqlite3.connect(part, isolation_level=None)) as opened:
            opened.execute("PRAGMA synchronous=OFF")  # it is synced as a whole, or goes
            opened.execute("BEGIN")
            yield FileEnd(opened)
            opened.execute("COMMIT")
        archive.synced(part)
        if not rehearse:
            os.link(part, place)
            archive.synced(place.parent)
    finally:
        archive.beside(place, "copy")  # removes it


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[ServerEnd]:
    connection = await connect(
        url, statement_timeout="0", idle_in_transaction_session_timeout="0", lock_timeout="10s"
    )
    try:
        with mapped():
            yield ServerEnd(connection)
    finally:
        connection.terminate()


async def _make_empty(server: ServerEnd) -> None:
    """Empty a target that a copy has filled and nobody has changed; refuse any other rows."""
    found = {table.name: await tally(server, table) for table in tables()}
    if not any(each.rows for each in found.values()):
        return
    if await server.marked() != _mark(found):
        raise Conflict(
            "The target holds rows that no copy put there, or that were changed since:"
            f" {_most(found)}.",
            hint="Name an empty database. (Only a copy that nobody has used is done anew.)",
        )
    await server.empty()


def _most(found: Mapping[str, Tally]) -> str:
    """Name the tables with the most rows."""
    full: Sequence[tuple[str, Tally]] = sorted(
        ((name, each) for name, each in found.items() if each.rows), key=lambda item: -item[1].rows
    )
    return ", ".join(f"{name} ({each.rows})" for name, each in full[:3])
