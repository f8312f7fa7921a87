"""DDL on PostgreSQL: connections, the upgrade lock, text that sorts by bytes."""

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

from homeroom.db.postgres.driver import connect_postgres, translate_postgres_errors
from homeroom.db.postgres.transaction import advisory_lock_key

WorkResult = TypeVar("WorkResult")
_UPGRADE_LOCK_KEY = advisory_lock_key("upgrade")


@compiles(Text, "postgresql")
@compiles(String, "postgresql")
def _render_c_collation(type_: String, compiler: Any, **options: Any) -> str:
    """Render a text type; a column is compared by bytes, as on SQLite.

    Thus pages of results are the same on both, and no index depends on the locales of a machine,
    which change with its C library.
    """
    plain = compiler.visit_TEXT if isinstance(type_, Text) else compiler.visit_VARCHAR
    text: str = plain(type_, **options)
    is_column = isinstance(options.get("type_expression"), Column)
    return f'{text} COLLATE "C"' if is_column and "COLLATE" not in text else text


def run_on_postgres(url: str, work: Callable[[Connection], WorkResult]) -> WorkResult:
    """Run a synchronous function; raise ``Unavailable`` or ``ConfigurationError``."""
    return asyncio.run(_run_in_engine(url, work))


async def _run_in_engine(url: str, work: Callable[[Connection], WorkResult]) -> WorkResult:
    async def creator() -> Any:
        return await connect_postgres(
            url, statement_timeout="0", idle_in_transaction_session_timeout="0"
        )

    engine = create_async_engine("postgresql+asyncpg://", async_creator=creator, poolclass=NullPool)
    try:
        with translate_postgres_errors(), _unwrap_driver_errors():
            async with engine.connect() as connection:
                return await connection.run_sync(work)
    finally:
        await engine.dispose()


@contextmanager
def _unwrap_driver_errors() -> Iterator[None]:
    """Raise the error of the driver instead of SQLAlchemy's wrapper."""
    try:
        yield
    except DBAPIError as error:
        cause = None if error.orig is None else error.orig.__cause__
        raise (cause or error) from None


def lock_schema_upgrade(connection: Connection) -> None:
    """Wait while another upgrade runs; the lock ends with the transaction.

    The usual lock time-out applies to tables, so that other transactions do not queue behind this
    one for long: the upgrade then fails, changes nothing, and can be started again.
    """
    connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK_KEY})")
    connection.exec_driver_sql("SET LOCAL lock_timeout = DEFAULT")
