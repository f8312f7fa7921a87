"""Copy an installation from SQLite to PostgreSQL, or back, and compare the two.

Rows are copied unchanged, including jobs and their leases. Every process of the source is stopped,
and the source is locked so that none can start. The target is filled in one transaction, or is a
file that gets its name at the end, so that an interrupted copy leaves no trace (decision 0018).

The target is committed under a seal, then the source is sealed before its lock ends, then the
target is unsealed: whenever the command is killed, at most one of the two may run, and the same
command finishes what was interrupted (decision 0026).
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

from homeroom.backup import archive, sqlite_file
from homeroom.backup.copy_endpoint import (
    CopyEndpoint,
    PostgresEndpoint,
    RowBatches,
    SqliteEndpoint,
    ordered_tables,
)
from homeroom.backup.integrity import IntegrityRules
from homeroom.clock import Clock
from homeroom.db import migrate
from homeroom.db.ids import new_id
from homeroom.db.postgres.driver import connect_postgres, translate_postgres_errors
from homeroom.db.postgres.transaction import replace_nul
from homeroom.db.seal import Seal, sealed_error
from homeroom.db.sqlite.transaction import translate_sqlite_errors
from homeroom.errors import BadRequest, ConfigurationError, Conflict, HomeroomError

_MARK_PREFIX = "filled by homeroom db copy: "
_ESCAPED_NUL = "\\x00"
_DIGEST_MODULUS = 1 << 64


@dataclass(frozen=True, slots=True)
class TableDigest:
    """The number of rows of a table, and a digest of their values in any order."""

    rows: int = 0
    digest: int = 0


@dataclass(frozen=True, slots=True)
class CopyResult:
    """The copied tables; the target was read again and is the same as the source."""

    tables: Mapping[str, TableDigest]
    totals: Mapping[str, int]
    rehearsed: bool
    """The target was rolled back."""

    @property
    def rows(self) -> int:
        """Return the number of rows in all tables."""
        return sum(digest.rows for digest in self.tables.values())


class CopyMismatch(HomeroomError):
    """The target differs from the source, so it was rolled back."""

    code = "copy_differs"


@dataclass(frozen=True, slots=True)
class CopySide:
    """One of the two databases of a copy."""

    location: Path | str
    """The file, or the URL of the server."""
    name: str
    """The database for messages and seals: without its password."""


@translate_sqlite_errors()
def copy_installation(
    source: CopySide, target: CopySide, rules: IntegrityRules, *, rehearse: bool
) -> CopyResult:
    """Copy all tables from a file to a server or the other way, and compare them.

    The source is sealed when this returns. A copy of this source that was interrupted is finished:
    compared again if the source was sealed already, else made anew. ``rehearse`` copies a snapshot
    of a source that may be in use, compares it and rolls back.

    Raises ``Conflict`` for a source or a target in use, and for a target with rows that are not an
    unchanged earlier copy; ``ConfigurationError`` for a schema of another release and for a source
    that is sealed; ``CopyMismatch``.
    """
    if isinstance(source.location, Path) == isinstance(target.location, Path):
        raise BadRequest(
            "A copy needs a SQLite file and a PostgreSQL database, one of them as its target.",
            hint="For two of one kind use: homeroom db backup FILE, homeroom db restore FILE",
        )
    _require_current_schema(source.location, "source")
    if isinstance(target.location, Path):
        if rehearse or not sqlite_file.is_unfinished_copy(target.location):
            archive.require_new_file(target.location)
    else:
        if migrate.schema_state(target.location).current is None:
            migrate.upgrade(target.location)
        _require_current_schema(target.location, "target")
    return asyncio.run(_copy_and_seal(source, target, rules, rehearse))


def _require_current_schema(location: Path | str, role: str) -> None:
    state = migrate.schema_state(location)
    if not state.is_current:
        raise ConfigurationError(
            f"The {role} is at revision {state.current}; this release needs {state.head}"
            + (f" ({state.differences[0]})." if state.differences else "."),
            hint=f"Upgrade the {role} with: homeroom db upgrade",
        )


async def _copy_and_seal(
    source: CopySide, target: CopySide, rules: IntegrityRules, rehearse: bool
) -> CopyResult:
    """Copy all tables; unless it is a rehearsal, move the right to run to the target."""
    async with _open_source(source.location, rehearse) as reader:
        if rehearse:
            async with _open_target(target.location, rehearse) as writer:
                return await _copy_all_tables(reader, writer, rules, rehearse)
        sealed = await reader.read_seal()
        if sealed is not None:
            return await _finish_copy(reader, sealed, source, target, rules)
        copy_id, now = new_id(), Clock().now()
        async with _open_target(target.location, rehearse) as writer:
            result = await _copy_all_tables(reader, writer, rules, rehearse)
            await writer.write_seal(Seal("target", copy_id, source.name, now))
        # From here on the copy is complete and durable, but only the source may run.
        await reader.write_seal(Seal("source", copy_id, target.name, now))
        await reader.commit()
        async with _open_filled_target(target.location) as writer:
            await writer.write_seal(None)
        return result


async def _finish_copy(
    reader: CopyEndpoint,
    sealed: Seal,
    source: CopySide,
    target: CopySide,
    rules: IntegrityRules,
) -> CopyResult:
    """Unseal the target of a copy that was interrupted after its source was sealed.

    Raises ``InstallationSealed`` unless the target is that copy and was not unsealed yet.
    """
    if isinstance(target.location, Path) and not target.location.exists():
        raise sealed_error(sealed, source.name)
    async with _open_filled_target(target.location) as writer:
        found = await writer.read_seal()
        if found is None or found.copy_id != sealed.copy_id:
            raise sealed_error(sealed, source.name)
        digests = {table.name: await digest_table(reader, table) for table in ordered_tables()}
        totals = await _compare_sides(reader, writer, digests, rules)
        await writer.write_seal(None)
    return CopyResult(digests, totals, False)


async def _copy_all_tables(
    reader: CopyEndpoint, writer: CopyEndpoint, rules: IntegrityRules, rehearse: bool
) -> CopyResult:
    digests = {table.name: await _copy_table(reader, writer, table) for table in ordered_tables()}
    await writer.continue_numbers_after(await reader.last_numbers())
    totals = await _compare_sides(reader, writer, digests, rules)
    if isinstance(writer, PostgresEndpoint):
        await writer.write_mark(_copy_mark(digests))
    return CopyResult(digests, totals, rehearse)


async def _compare_sides(
    reader: CopyEndpoint,
    writer: CopyEndpoint,
    digests: Mapping[str, TableDigest],
    rules: IntegrityRules,
) -> dict[str, int]:
    """Read the target again and return its totals; raise ``CopyMismatch``."""
    totals = {each.name: await reader.fetch_integer(each.sql) for each in rules.totals}
    differences = [
        f"{table.name} ({digests[table.name].rows} rows)"
        for table in ordered_tables()
        if await digest_table(writer, table) != digests[table.name]
    ]
    for each in rules.totals:
        if await writer.fetch_integer(each.sql) != totals[each.name]:
            differences.append(each.name)
    if differences:
        raise CopyMismatch(
            f"The target differs from the source, so it was rolled back: {', '.join(differences)}."
        )
    return totals


async def _copy_table(reader: CopyEndpoint, writer: CopyEndpoint, table: Table) -> TableDigest:
    """Copy one table and return the digest of the source."""
    digester = _RowDigester()
    await writer.insert_rows(table, digester.pass_through(reader.batches(table)))
    return digester.result


async def digest_table(end: CopyEndpoint, table: Table) -> TableDigest:
    """Read a whole table and return its digest."""
    digester = _RowDigester()
    async for _ in digester.pass_through(end.batches(table)):
        pass
    return digester.result


class _RowDigester:
    """Counts and digests a stream of rows; replaces NUL, which PostgreSQL lacks."""

    def __init__(self) -> None:
        self.result = TableDigest()

    async def pass_through(self, batches: RowBatches) -> RowBatches:
        rows = digest = 0
        async for batch in batches:
            storable = []
            for row in batch:
                text = repr(row)
                if _ESCAPED_NUL in text:
                    row = tuple(replace_nul(row))
                    text = repr(row)
                storable.append(row)
                hashed = blake2b(text.encode(), digest_size=8).digest()
                digest = (digest + int.from_bytes(hashed)) % _DIGEST_MODULUS
            rows += len(storable)
            yield storable
        self.result = TableDigest(rows, digest)


def _copy_mark(digests: Mapping[str, TableDigest]) -> str:
    """Return the mark by which a later copy recognizes an unchanged one."""
    text = repr(sorted((name, each.rows, each.digest) for name, each in digests.items()))
    return _MARK_PREFIX + blake2b(text.encode(), digest_size=16).hexdigest()


@asynccontextmanager
async def _open_source(location: Path | str, rehearse: bool) -> AsyncIterator[CopyEndpoint]:
    """Open the source: locked against writers, or as a snapshot for a rehearsal."""
    if isinstance(location, Path):
        with ExitStack() as stack:
            if rehearse:
                connection = stack.enter_context(
                    closing(sqlite3.connect(location, isolation_level=None, timeout=60))
                )
            else:
                connection = stack.enter_context(sqlite_file.lock_exclusively(location))
            connection.execute("BEGIN")
            yield SqliteEndpoint(connection)
        return
    async with _connect_endpoint(location) as server:
        if not rehearse:
            await server.require_unused()
        if rehearse:
            await server.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        else:
            await server.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await server.lock("SHARE")
            await server.require_unused()  # one may have started before the lock was granted
        yield server


@asynccontextmanager
async def _open_target(location: Path | str, rehearse: bool) -> AsyncIterator[CopyEndpoint]:
    """Open an empty target; commit it after the block, unless it raises."""
    if isinstance(location, Path):
        async with _new_target_file(location, rehearse) as endpoint:
            yield endpoint
        return
    async with _connect_endpoint(location) as server:
        await server.require_unused()
        await server.connection.execute("BEGIN")
        await server.lock("ACCESS EXCLUSIVE")
        await _empty_target(server)
        yield server
        if not rehearse:
            await server.commit()


@asynccontextmanager
async def _new_target_file(location: Path, rehearse: bool) -> AsyncIterator[CopyEndpoint]:
    part = archive.temporary_path_beside(location, "copy")
    try:
        part.touch(mode=0o600)
        await asyncio.to_thread(migrate.upgrade, part)
        with closing(sqlite3.connect(part, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF")  # the file is synced at the end
            connection.execute("BEGIN")
            yield SqliteEndpoint(connection)
            connection.execute("COMMIT")
        archive.sync_to_disk(part)
        if not rehearse:
            if sqlite_file.is_unfinished_copy(location):
                sqlite_file.replace_unfinished_copy(part, location)
            else:
                os.link(part, location)
            archive.sync_to_disk(location.parent)
    finally:
        archive.temporary_path_beside(location, "copy")  # removes it


@asynccontextmanager
async def _open_filled_target(location: Path | str) -> AsyncIterator[CopyEndpoint]:
    """Open the sealed target again in a transaction; commit it after the block."""
    if isinstance(location, Path):
        with closing(sqlite3.connect(location, isolation_level=None, timeout=60)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            endpoint = SqliteEndpoint(connection)
            yield endpoint
            await endpoint.commit()
        return
    async with _connect_endpoint(location) as server:
        await server.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        yield server
        await server.commit()


@asynccontextmanager
async def _connect_endpoint(url: str) -> AsyncIterator[PostgresEndpoint]:
    connection = await connect_postgres(
        url, statement_timeout="0", idle_in_transaction_session_timeout="0", lock_timeout="10s"
    )
    try:
        with translate_postgres_errors():
            yield PostgresEndpoint(connection)
    finally:
        connection.terminate()


async def _empty_target(server: PostgresEndpoint) -> None:
    """Truncate a target that holds an unchanged earlier copy; refuse any other rows."""
    digests = {table.name: await digest_table(server, table) for table in ordered_tables()}
    if not any(each.rows for each in digests.values()):
        return
    if await server.read_mark() != _copy_mark(digests):
        raise Conflict(
            "The target holds rows that are not an unchanged earlier copy:"
            f" {_largest_tables(digests)}.",
            hint="Name an empty database. (Only an earlier copy that was never used is replaced.)",
        )
    await server.truncate_tables()


def _largest_tables(digests: Mapping[str, TableDigest]) -> str:
    """Return the names of the three tables with the most rows."""
    full: Sequence[tuple[str, TableDigest]] = sorted(
        ((name, each) for name, each in digests.items() if each.rows),
        key=lambda item: -item[1].rows,
    )
    return ", ".join(f"{name} ({each.rows})" for name, each in full[:3])
