"""What Alembic needs of PostgreSQL: a connection for DDL, and text that compares by its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, String, Text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import NullPool

from homeroom.db.postgres import connect
from homeroom.db.postgres_fault import mapped
from homeroom.db.postgres_tx import lock_key

Found = TypeVar("Found")
_UPGRADE = lock_key("upgrade")


@compiles(Text, "postgresql")
@compiles(String, "postgresql")
def _by_bytes(type_: String, compiler: Any, **options: Any) -> str:
    """Render the type of a text: a column's is compared by bytes, as on SQLite.

    So pages begin and end alike on both, and no index depends on the locales of a machine, which
    change with its C library.
    """
    plain = compiler.visit_TEXT if isinstance(type_, Text) else compiler.visit_VARCHAR
    text: str = plain(type_, **options)
    is_column = isinstance(options.get("type_expression"), Column)
    return f'{text} COLLATE "C"' if is_column and "COLLATE" not in text else text


def on_postgresql(url: str, work: Callable[[Connection], Found]) -> Found:
    """Run something synchronous on a connection; raise ``Unavailable``, ``ConfigurationError``."""
    return asyncio.run(_run(url, work))


async def _run(url: str, work: Callable[[Connection], Found]) -> Found:
    async def creator() -> Any:
        return await connect(url, statement_timeout="0", idle_in_transaction_session_timeout="0")

    engine = create_async_engine("postgresql+asyncpg://", async_creator=creator, poolclass=NullPool)
    try:
        with mapped(), _unwrapped():
            async with engine.connect() as connection:
                return await connection.run_sync(work)
    finally:
        await engine.dispose()


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Raise the driver's own error where SQLAlchemy has put its own around it."""
    try:
        yield
    except DBAPIError as error:
        cause = None if error.orig is None else error.orig.__cause__
        raise (cause or error) from None


def lock_upgrades(connection: Connection) -> None:
    """Wait for as long as another upgrade runs; the lock goes with the transaction.

    A table that somebody else holds is waited for as usual, so that nobody stands behind us for
    long: the upgrade then fails, changes nothing, and can be started again.
    """
    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE})")
    connection.exec_driver_sql("SET LOCAL lock_timeout = DEFAULT")
