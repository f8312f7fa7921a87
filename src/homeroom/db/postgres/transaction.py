"""A transaction of PostgreSQL: a statement of any rows is one round trip."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from typing import Any, cast, get_origin

import msgspec

from homeroom.db.bulk import BatchedRead, BulkTx, RowType, json_row_sql, json_rows_decoder
from homeroom.db.postgres.driver import translate_postgres_errors
from homeroom.db.tx import Row, Statement, render_sql

MAX_LOCKED_IDS = 500
"""More ids than these are replaced by the lock of their kind: the server can hold some thousand
locks in all (``max_locks_per_transaction`` times ``max_connections``)."""

COPY_MIN_ROWS = 50
"""Fewest rows that are sent by COPY: one more round trip, and half the time a row."""

_encode_json = msgspec.json.Encoder().encode
_LITERAL_OR_MARK = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\?")
_PLAIN_INSERT = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\) VALUES \((?:\?, )*\?\)")
"""An INSERT without a conflict clause, which COPY can replace."""
_VALUES_ROW = re.compile(r"VALUES \((?:\?, )*\?\)")
_ARRAY_BY_TYPE = {str: "${}::text[]", int: "${}::bigint[]", bytes: "${}::bytea[]"}
"""SQL of an array parameter by the type of its elements; ``{}`` is the parameter's number."""
_TEXT_SEPARATOR = "\x1f"
"""Separates texts that are sent as one parameter, which costs the driver a twentieth of an array.
No accepted id contains it."""
_JOINED_TEXTS = f"string_to_array(${{}}::text, E'\\x{ord(_TEXT_SEPARATOR):02x}')"
_INTEGER_TYPES = frozenset({"int2", "int4", "int8"})
_JOINED_INTEGERS = "string_to_array(${{}}::text, ',', 'n')::{}[]"
"""Numbers are sent as one text, too; ``n`` stands for null."""
StatementCache = dict[Hashable, Any]
"""Prepared texts and parameter types by statement."""
_LOCK_ALL = "SELECT pg_advisory_xact_lock($1)"
_LOCK_SOME = (
    "SELECT pg_advisory_xact_lock_shared($1),"
    " (SELECT count(pg_advisory_xact_lock(key)) FROM unnest($2::bigint[]) AS key)"
)


@lru_cache(maxsize=1024)
def number_placeholders(sql: str) -> str:
    """Return SQL with ``$1``, ``$2`` ... for its ``?`` marks, except in literals."""
    number = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal number
        if match[0] != "?":
            return match[0]
        number += 1
        return f"${number}"

    return _LITERAL_OR_MARK.sub(replace, sql)


def unnest_arrays(parameters: Iterable[str], first: int = 1) -> str:
    """Return the FROM item whose columns are the elements of arrays.

    ``parameters`` are as in ``_ARRAY_BY_TYPE``; ``first`` is the number of the first one.
    """
    return f"unnest({', '.join(each.format(n) for n, each in enumerate(parameters, first))})"


@lru_cache(maxsize=256)
def _keyed_sql(sql: str, parameters: tuple[str, ...], first: int = 1) -> str:
    columns = ", ".join(f"column{n}" for n in range(1, len(parameters) + 1))
    return sql.replace(
        "{keys}", f"(SELECT * FROM {unnest_arrays(parameters, first)} AS given({columns}))"
    )


def _key_columns(keys: Sequence[Sequence[Any]]) -> tuple[tuple[str, ...], list[Any]]:
    """Return the SQL of the parameters for the columns of keys, and their values."""
    parameters: list[str] = []
    values: list[Any] = []
    for column in zip(*keys, strict=True):
        parameter = _ARRAY_BY_TYPE[type(column[0])]
        value: Any = column
        if type(column[0]) is str:
            text = _TEXT_SEPARATOR.join(column)
            # The server would split an empty text into no elements instead of one empty element.
            if text and text.count(_TEXT_SEPARATOR) == len(column) - 1:
                parameter, value = _JOINED_TEXTS, text
        parameters.append(parameter)
        values.append(value)
    return tuple(parameters), values


@lru_cache(maxsize=256)
def _insert_from_columns(sql: str, types: tuple[str, ...]) -> str:
    """Return an INSERT of one row as one of columns; numbers are joined texts."""
    parameters = [
        (_JOINED_INTEGERS if type in _INTEGER_TYPES else "${{}}::{}[]").format(type)
        for type in types
    ]
    return _VALUES_ROW.sub(lambda _: f"SELECT * FROM {unnest_arrays(parameters)}", sql, count=1)


@lru_cache(maxsize=256)
def _copy_target(sql: str) -> tuple[str, list[str]] | None:
    """Return the table and the columns of an INSERT that COPY can replace."""
    match = _PLAIN_INSERT.fullmatch(sql)
    return None if match is None else (match[1], match[2].split(", "))


def advisory_lock_key(kind: str, id: str | None = None) -> int:
    """Return the number of an advisory lock; a collision of names costs a wait."""
    text = kind if id is None else f"{kind}\0{id}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)


def replace_nul(values: Iterable[Any]) -> list[Any]:
    """Return values as PostgreSQL can store them: its text holds no NUL character."""
    return [
        value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        if type(value) is str and "\0" in value
        else value
        for value in values
    ]


def _replace_nul_in_rows(rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    """Apply ``replace_nul`` to many rows; one search a column, because NUL is rare."""
    for column in zip(*rows, strict=True):
        with suppress(TypeError):  # not text
            if "\0" in "".join(filter(None, column)):
                return [replace_nul(row) for row in rows]
    return rows


class PostgresTx(BulkTx):
    """A transaction on a connection of its own."""

    dialect = "postgresql"

    def __init__(
        self,
        connection: Any,
        now: int,
        statement_cache: StatementCache,
        begin: str | None = None,
    ) -> None:
        """Use a connection after BEGIN, or run ``begin`` with the first statement."""
        super().__init__(now)
        self._connection, self._begin = connection, begin
        self._statement_cache = statement_cache

    @property
    def has_begun(self) -> bool:
        """Return whether there is anything to commit."""
        return self._begin is None

    async def _begin_if_needed(self, *, with_: str | None = None) -> Any:
        """Return the connection once the transaction has begun.

        ``with_`` is a statement to send together with BEGIN; it is ignored after that.
        """
        begin, self._begin = self._begin, None
        if begin is not None:
            await self._connection.execute(begin if with_ is None else f"{begin}; {with_}")
        return self._connection

    async def execute(self, statement: Statement, values: Sequence[Any] = ()) -> int:
        """Run a statement and return the number of changed rows."""
        sql, bound = _render_numbered(statement, values)
        with translate_postgres_errors(self._connection):
            return _affected_rows(await (await self._begin_if_needed()).execute(sql, *bound))

    async def fetch(self, statement: Statement, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""
        sql, bound = _render_numbered(statement, values)
        with translate_postgres_errors(self._connection):
            return [tuple(row) for row in await (await self._begin_if_needed()).fetch(sql, *bound)]

    async def fetch_named(
        self, statement: Statement, values: Sequence[Any] = ()
    ) -> tuple[tuple[str, ...], list[Row]]:
        """Run a statement and return the names of its columns and all its rows."""
        sql, bound = _render_numbered(statement, values)
        with translate_postgres_errors(self._connection):
            rows = await (await self._begin_if_needed()).fetch(sql, *bound)
        return tuple(rows[0].keys()) if rows else (), [tuple(row) for row in rows]

    async def fetch_by_keys_into(
        self, of: type[RowType], sql: str, keys: Sequence[Sequence[Any]]
    ) -> list[RowType]:
        """Run a SELECT for any number of keys at once, and return rows of a type."""
        if not keys:
            return []
        parameters, columns = _key_columns(keys)
        with translate_postgres_errors(self._connection):
            connection = await self._begin_if_needed()
            rows = await connection.fetch(_keyed_sql(sql, parameters), *columns)
        if of is tuple or get_origin(of) is tuple:
            return [cast(RowType, tuple(row)) for row in rows]
        return _decode_rows(of, rows)

    async def fetch_many(self, *reads: BatchedRead[Any]) -> list[Any]:
        """Return the results of several batched reads, each fetched as one JSON text."""
        with_keys = [read for read in reads if read.keys]
        if not with_keys:
            return [read.parse([]) for read in reads]
        columns: list[Any] = []
        statements = []
        for read in with_keys:
            parameters, values = _key_columns(read.keys)
            statements.append((read.sql, parameters))
            columns += values
        with translate_postgres_errors(self._connection):
            sql = await self._combined_sql(tuple(statements))
            [texts] = await (await self._begin_if_needed()).fetch(sql, *columns)
        remaining = iter(texts)
        return [
            read.parse(
                json_rows_decoder(read.row_type).decode(next(remaining)) if read.keys else []
            )
            for read in reads
        ]

    async def _combined_sql(self, statements: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
        """Return one SELECT with a column of JSON text for each keyed SELECT."""
        combined = self._statement_cache.get(statements)
        if combined is None:
            columns, first = [], 1
            for sql, parameters in statements:
                connection = await self._begin_if_needed()
                prepared = await connection.prepare(_keyed_sql(sql, parameters))
                row = json_row_sql(
                    [each.name for each in prepared.get_attributes()],
                    "CAST(json_build_array({}) AS text)",
                )
                columns.append(
                    f"(SELECT '[' || coalesce(string_agg({row}, ','), '') || ']'"
                    f" FROM ({_keyed_sql(sql, parameters, first)}) AS found)"
                )
                first += len(parameters)
            combined = self._statement_cache[statements] = f"SELECT {', '.join(columns)}"
        return combined

    async def executemany(
        self, sql: str, rows: Sequence[Sequence[Any]], *, nul_free: bool = False
    ) -> int:
        """Run a statement for every row of values and return the number of changed rows.

        An ``INSERT ... VALUES (?, ...)`` is one statement for all rows, in their order: a COPY if
        there are many and it has no conflict clause.
        """
        if not rows:
            return 0
        if not nul_free:
            rows = _replace_nul_in_rows(rows)
        copy_target = _copy_target(sql) if len(rows) >= COPY_MIN_ROWS else None
        with translate_postgres_errors(self._connection):
            connection = await self._begin_if_needed()
            if copy_target is not None:
                return await self._copy(*copy_target, rows)
            types = await self._parameter_types(sql)
            if types is None:
                one = number_placeholders(sql)
                return sum([_affected_rows(await connection.execute(one, *row)) for row in rows])
            columns = [
                ",".join(["n" if each is None else int.__repr__(each) for each in column])
                if type in _INTEGER_TYPES
                else column
                for type, column in zip(types, zip(*rows, strict=True), strict=True)
            ]
            status = await connection.execute(_insert_from_columns(sql, types), *columns)
            return _affected_rows(status)

    async def _copy(self, table: str, columns: list[str], rows: Sequence[Sequence[Any]]) -> int:
        copy = (await self._begin_if_needed()).copy_records_to_table
        return _affected_rows(await copy(table, columns=columns, records=rows))

    async def _parameter_types(self, sql: str) -> tuple[str, ...] | None:
        """Return the parameter types of an INSERT of one row; None for other SQL."""
        if sql not in self._statement_cache:
            types = None
            if _VALUES_ROW.search(sql):
                prepared = await (await self._begin_if_needed()).prepare(number_placeholders(sql))
                types = tuple(each.name for each in prepared.get_parameters())
            self._statement_cache[sql] = types
        cached: tuple[str, ...] | None = self._statement_cache[sql]
        return cached

    async def lock(self, kind: str, ids: Collection[str] | None = None) -> None:
        """Wait for a lock and hold it until the end of this transaction."""
        kind_key = advisory_lock_key(kind)
        lock_all = ids is None or len(ids) > MAX_LOCKED_IDS
        keys = sorted({advisory_lock_key(kind, id) for id in ids or ()})
        if not lock_all and not keys:
            return
        with translate_postgres_errors(self._connection):
            if self._begin is not None:  # a transaction often begins with a lock: one trip for both
                sql = _LOCK_ALL if lock_all else _LOCK_SOME
                await self._begin_if_needed(
                    with_=sql.replace("$1", str(kind_key)).replace("$2", f"'{{{str(keys)[1:-1]}}}'")
                )
            elif lock_all:
                await self._connection.execute(_LOCK_ALL, kind_key)
            else:
                await self._connection.execute(_LOCK_SOME, kind_key, keys)


def _decode_rows(of: type[RowType], rows: Sequence[Any]) -> list[RowType]:
    """Return rows as a msgspec type, with JSON columns as in ``json_row_sql``."""
    if not rows:
        return []
    names = list(rows[0].keys())
    plain_count = sum(not name.endswith("_json") for name in names)
    raw = [(*row[:plain_count], *map(msgspec.Raw, row[plain_count:])) for row in rows]
    return msgspec.json.decode(_encode_json(raw), type=list[of])  # type: ignore[valid-type]


def _render_numbered(statement: Statement, values: Sequence[Any]) -> tuple[str, Iterable[Any]]:
    sql, bound = render_sql(statement, values, "postgresql")
    return (number_placeholders(sql) if isinstance(statement, str) else sql), replace_nul(bound)


def _affected_rows(status: str) -> int:
    """Return the number of rows in a command tag: 3 for ``INSERT 0 3``."""
    number = status.rpartition(" ")[2]
    return int(number) if number.isdigit() else 0
