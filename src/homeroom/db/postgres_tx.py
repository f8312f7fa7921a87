"""A transaction of PostgreSQL: every statement is one round trip, however many rows it is for."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from typing import Any, cast, get_origin

import msgspec

from homeroom.db.json_rows import decoder, row_text
from homeroom.db.postgres_fault import mapped
from homeroom.db.statement import render
from homeroom.db.tx import Found, Question, Row, Statement, Tx

MANY_LOCKS = 500
"""More ids than these are locked all at once: the server has room for some thousand locks in all
(``max_locks_per_transaction`` times ``max_connections``)."""

MANY_ROWS = 50
"""So many rows and more are sent by COPY: one more round trip, and half the time a row."""

_encode = msgspec.json.Encoder().encode
_LITERAL_OR_MARK = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\?")
_COPIED = re.compile(r"INSERT INTO (\w+) \(([\w, ]+)\) VALUES \((?:\?, )*\?\)")
"""An INSERT that leaves nothing to be decided, so that COPY can do it."""
_ONE_ROW = re.compile(r"VALUES \((?:\?, )*\?\)")
_ARRAY_OF = {str: "${}::text[]", int: "${}::bigint[]", bytes: "${}::bytea[]"}
"""Arrays by what they hold, as SQL that wants the number of its place."""
_BETWEEN = "\x1f"
"""Stands between texts that travel as one, of which the driver makes twenty times less work than of
an array. No id that is let in has it."""
_JOINED = f"string_to_array(${{}}::text, E'\\x{ord(_BETWEEN):02x}')"
_NUMBERS = frozenset({"int2", "int4", "int8"})
_JOINED_NUMBERS = "string_to_array(${{}}::text, ',', 'n')::{}[]"
"""Numbers travel as one text, too; ``n`` is none."""
Shapes = dict[Hashable, Any]
"""What was made of statements, by their texts."""
_LOCK_ALL = "SELECT pg_advisory_xact_lock($1)"
_LOCK_SOME = (
    "SELECT pg_advisory_xact_lock_shared($1),"
    " (SELECT count(pg_advisory_xact_lock(key)) FROM unnest($2::bigint[]) AS key)"
)


@lru_cache(maxsize=1024)
def numbered(sql: str) -> str:
    """Return SQL with ``$1``, ``$2`` ... in place of its ``?`` marks; literals stay as they are."""
    number = 0

    def name(found: re.Match[str]) -> str:
        nonlocal number
        if found[0] != "?":
            return found[0]
        number += 1
        return f"${number}"

    return _LITERAL_OR_MARK.sub(name, sql)


def arrays(places: Iterable[str], first: int = 1) -> str:
    """Return the rows that arrays hold, as something to select from.

    ``places`` are as in ``_ARRAY_OF``, and ``first`` is the number of the first of them.
    """
    return f"unnest({', '.join(each.format(n) for n, each in enumerate(places, first))})"


@lru_cache(maxsize=256)
def _keyed(sql: str, places: tuple[str, ...], first: int = 1) -> str:
    columns = ", ".join(f"column{n}" for n in range(1, len(places) + 1))
    return sql.replace("{keys}", f"(SELECT * FROM {arrays(places, first)} AS given({columns}))")


def _columns(keys: Sequence[Sequence[Any]]) -> tuple[tuple[str, ...], list[Any]]:
    """Return the places of some keys' columns, and the columns as the driver is to have them."""
    places: list[str] = []
    columns: list[Any] = []
    for column in zip(*keys, strict=True):
        place = _ARRAY_OF[type(column[0])]
        given: Any = column
        if type(column[0]) is str:
            text = _BETWEEN.join(column)
            # Of no text at all the server would make no elements, and not an empty one.
            if text and text.count(_BETWEEN) == len(column) - 1:
                place, given = _JOINED, text
        places.append(place)
        columns.append(given)
    return tuple(places), columns


@lru_cache(maxsize=256)
def _of_columns(sql: str, types: tuple[str, ...]) -> str:
    """Return an INSERT of one row as one of columns, those of numbers as joined texts."""
    places = [
        (_JOINED_NUMBERS if type in _NUMBERS else "${{}}::{}[]").format(type) for type in types
    ]
    return _ONE_ROW.sub(lambda _: f"SELECT * FROM {arrays(places)}", sql, count=1)


@lru_cache(maxsize=256)
def _copied(sql: str) -> tuple[str, list[str]] | None:
    """Return the table and the columns of an INSERT that COPY can do."""
    found = _COPIED.fullmatch(sql)
    return None if found is None else (found[1], found[2].split(", "))


def lock_key(kind: str, id: str | None = None) -> int:
    """Return the number of an advisory lock; two names may share one, which costs a wait."""
    text = kind if id is None else f"{kind}\0{id}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), signed=True)


def storable(values: Iterable[Any]) -> list[Any]:
    """Return values as PostgreSQL can store them: its text holds no NUL character."""
    return [
        value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        if type(value) is str and "\0" in value
        else value
        for value in values
    ]


def _storable_rows(rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    """Do what ``storable`` does for many rows, with a look at each column: no NUL is the rule."""
    for column in zip(*rows, strict=True):
        with suppress(TypeError):  # not text
            if "\0" in "".join(filter(None, column)):
                return [storable(row) for row in rows]
    return rows


class PostgresTx(Tx):
    """A transaction on a connection of its own."""

    dialect = "postgresql"

    def __init__(self, connection: Any, now: int, shapes: Shapes, begin: str | None = None) -> None:
        """Take the connection, on which BEGIN was run; or ``begin``, which does so when needed.

        ``shapes`` is the database's memory of what it has made of statements.
        """
        super().__init__(now)
        self._connection, self._shapes, self._begin = connection, shapes, begin

    @property
    def has_begun(self) -> bool:
        """Say whether there is anything to commit."""
        return self._begin is None

    async def _begun(self, *, with_: str | None = None) -> Any:
        """Return the connection once the transaction has begun, ``with_`` a statement if it has to.

        That one travels along, and is forgotten where the transaction has begun before.
        """
        begin, self._begin = self._begin, None
        if begin is not None:
            await self._connection.execute(begin if with_ is None else f"{begin}; {with_}")
        return self._connection

    async def execute(self, statement: Statement, values: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it changed."""
        sql, bound = _ready(statement, values)
        with mapped():
            return _count(await (await self._begun()).execute(sql, *bound))

    async def fetch(self, statement: Statement, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement and return all its rows."""
        sql, bound = _ready(statement, values)
        with mapped():
            return [tuple(row) for row in await (await self._begun()).fetch(sql, *bound)]

    async def fetch_as(
        self, of: type[Found], sql: str, keys: Sequence[Sequence[Any]]
    ) -> list[Found]:
        """Run a SELECT for any number of keys at once, and return rows of a type."""
        if not keys:
            return []
        places, columns = _columns(keys)
        with mapped():
            rows = await (await self._begun()).fetch(_keyed(sql, places), *columns)
        if of is tuple or get_origin(of) is tuple:
            return [cast(Found, tuple(row)) for row in rows]
        return _decoded(of, rows)

    async def ask_all(self, *questions: Question[Any]) -> list[Any]:
        """Return the answers to several questions, each of which comes as one JSON text."""
        asked = [question for question in questions if question.keys]
        if not asked:
            return [question.read([]) for question in questions]
        columns: list[Any] = []
        statements = []
        for question in asked:
            places, given = _columns(question.keys)
            statements.append((question.sql, places))
            columns += given
        with mapped():
            sql = await self._together(tuple(statements))
            [texts] = await (await self._begun()).fetch(sql, *columns)
        left = iter(texts)
        return [
            each.read(decoder(each.of).decode(next(left)) if each.keys else [])
            for each in questions
        ]

    async def _together(self, statements: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
        """Return several keyed SELECTs as one that gives a JSON text of each one's rows."""
        known = self._shapes.get(statements)
        if known is None:
            columns, first = [], 1
            for sql, places in statements:
                prepared = await (await self._begun()).prepare(_keyed(sql, places))
                row = row_text(
                    [each.name for each in prepared.get_attributes()],
                    "CAST(json_build_array({}) AS text)",
                )
                columns.append(
                    f"(SELECT '[' || coalesce(string_agg({row}, ','), '') || ']'"
                    f" FROM ({_keyed(sql, places, first)}) AS found)"
                )
                first += len(places)
            known = self._shapes[statements] = f"SELECT {', '.join(columns)}"
        return known

    async def executemany(
        self, sql: str, rows: Sequence[Sequence[Any]], *, nul_free: bool = False
    ) -> int:
        """Run a statement for every row of values and return how many rows changed.

        What inserts ``VALUES (?, ...)`` is one statement for all rows, in their order: a COPY where
        there are many and nothing is to be decided about them.
        """
        if not rows:
            return 0
        if not nul_free:
            rows = _storable_rows(rows)
        copied = _copied(sql) if len(rows) >= MANY_ROWS else None
        with mapped():
            if copied is not None:
                return await self._copy(*copied, rows)
            types = await self._types(sql)
            if types is None:
                one = numbered(sql)
                return sum([_count(await (await self._begun()).execute(one, *row)) for row in rows])
            columns = [
                ",".join(["n" if each is None else int.__repr__(each) for each in column])
                if type in _NUMBERS
                else column
                for type, column in zip(types, zip(*rows, strict=True), strict=True)
            ]
            return _count(await (await self._begun()).execute(_of_columns(sql, types), *columns))

    async def _copy(self, table: str, columns: list[str], rows: Sequence[Sequence[Any]]) -> int:
        copy = (await self._begun()).copy_records_to_table
        return _count(await copy(table, columns=columns, records=rows))

    async def _types(self, sql: str) -> tuple[str, ...] | None:
        """Return the types of what an INSERT of one row wants; None of any other statement."""
        if sql not in self._shapes:
            types = None
            if _ONE_ROW.search(sql):
                prepared = await (await self._begun()).prepare(numbered(sql))
                types = tuple(each.name for each in prepared.get_parameters())
            self._shapes[sql] = types
        known: tuple[str, ...] | None = self._shapes[sql]
        return known

    async def lock(self, kind: str, ids: Collection[str] | None = None) -> None:
        """Wait until no other transaction holds this lock, and hold it until this one ends."""
        everybody = lock_key(kind)
        many = ids is None or len(ids) > MANY_LOCKS
        keys = sorted({lock_key(kind, id) for id in ids or ()})
        if not many and not keys:
            return
        with mapped():
            if self._begin is not None:  # a transaction often begins by a lock: one trip for both
                sql = _LOCK_ALL if many else _LOCK_SOME
                await self._begun(
                    with_=sql.replace("$1", str(everybody)).replace(
                        "$2", f"'{{{str(keys)[1:-1]}}}'"
                    )
                )
            elif many:
                await self._connection.execute(_LOCK_ALL, everybody)
            else:
                await self._connection.execute(_LOCK_SOME, everybody, keys)


def _decoded(of: type[Found], rows: Sequence[Any]) -> list[Found]:
    """Return rows as a msgspec type; columns named ``..._json``, which come last, are JSON text."""
    if not rows:
        return []
    names = list(rows[0].keys())
    plain = sum(not name.endswith("_json") for name in names)
    raw = [(*row[:plain], *map(msgspec.Raw, row[plain:])) for row in rows]
    return msgspec.json.decode(_encode(raw), type=list[of])  # type: ignore[valid-type]


def _ready(statement: Statement, values: Sequence[Any]) -> tuple[str, Iterable[Any]]:
    sql, bound = render(statement, values, "postgresql")
    return (numbered(sql) if isinstance(statement, str) else sql), storable(bound)


def _count(status: str) -> int:
    """Return how many rows a command tag such as ``INSERT 0 3`` or ``UPDATE 2`` speaks of."""
    number = status.rpartition(" ")[2]
    return int(number) if number.isdigit() else 0
