"""Compare the statements of a PostgreSQL dump with Homeroom's own (pure).

``psql`` runs them with Homeroom's rights, and some of its commands run programs. So only the forms
are accepted that ``pg_dump`` writes for Homeroom's own tables, and no free text in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

MAX_SHOWN_CHARS = 200
"""Most characters of a statement in a fault."""

_NAME = r'(?:[a-z_][a-z0-9_]*|"[a-z_][a-z0-9_]*")'
_NAMES = rf"{_NAME}(?: DESC)?(?:, {_NAME}(?: DESC)?)*"
_LITERAL = r"(?:-?\d+|'[^'\\]*'(?:::(?:text|character varying))?)"
_TRANSACTION_NUMBER = "((pg_current_xact_id())::text)::bigint"
_POSTGRES_DEFAULTS = {("change", "xid"): _TRANSACTION_NUMBER}
"""Defaults of columns that SQLite does not have."""
_DEFAULT = rf"(?:{_LITERAL}|{re.escape(_TRANSACTION_NUMBER)})"
_TYPE = (
    r"(?:text|bytea|bigint|smallint|integer|boolean|double precision|numeric"
    r"|character varying(?:\(\d+\))?)"
)
_COLUMN = re.compile(
    rf'    (?P<name>{_NAME}) {_TYPE}(?: (?:NOT NULL|COLLATE pg_catalog\."C"'
    rf"|DEFAULT (?P<default>{_DEFAULT})))*,?"
)
_TABLE = re.compile(
    rf"CREATE TABLE public\.(?P<name>{_NAME}) \(\n(?P<columns>.*?)\n\)"
    r"(?:\nWITH \([a-z_]+='?\d+'?(?:, [a-z_]+='?\d+'?)*\))?;",
    re.DOTALL,
)
_INDEX = re.compile(
    rf"CREATE (?:UNIQUE )?INDEX (?P<name>{_NAME}) ON public\.{_NAME} USING btree \({_NAMES}\)"
    r"(?: WHERE (?P<where>\(.*\)))?;"
)
_WHERE_PART = re.compile(
    rf"\s+|\(|\)|<>|<=|>=|=|<|>|\[|\]|,|(?:AND|OR|NOT|IS|NULL|ANY|ARRAY)\b|{_LITERAL}|{_NAME}(?!\s*\()"
)
_PLAIN_STATEMENTS = re.compile(
    "|".join(
        (
            r"SET (?:statement|lock|idle_in_transaction_session|transaction)_timeout = 0;",
            r"SET client_encoding = 'UTF8';",
            r"SET standard_conforming_strings = on;",
            r"SET check_function_bodies = false;",
            r"SET xmloption = content;",
            r"SET client_min_messages = warning;",
            r"SET row_security = off;",
            r"SET default_tablespace = '';",
            r"SET default_table_access_method = heap;",
            r"SELECT pg_catalog\.set_config\('search_path', '', false\);",
            rf"SELECT pg_catalog\.setval\('public\.{_NAME}', \d+, (?:true|false)\);",
            rf"CREATE SEQUENCE public\.{_NAME}(?:\n    (?:AS \w+|START WITH \d+|INCREMENT BY \d+"
            r"|NO MINVALUE|NO MAXVALUE|CACHE \d+))+;",
            rf"ALTER SEQUENCE public\.{_NAME} OWNED BY public\.{_NAME}\.{_NAME};",
            rf"ALTER TABLE ONLY public\.{_NAME} ALTER COLUMN {_NAME}"
            rf" SET DEFAULT nextval\('public\.{_NAME}'::regclass\);",
            rf"ALTER TABLE ONLY public\.{_NAME}\n    ADD CONSTRAINT {_NAME}"
            rf" (?:PRIMARY KEY|UNIQUE) \({_NAMES}\);",
            r"COMMENT ON TABLE public\.alembic_version IS '[a-z0-9: ]*';",
            rf"COPY public\.{_NAME} \((?:{_NAMES})?\) FROM stdin;",
            r"\\(?:un)?restrict \w+",
        )
    )
)


@dataclass(frozen=True, slots=True)
class DumpedSchema:
    """The names in a schema, and the defaults of its columns."""

    tables: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """The default of each column, by table; None without one."""
    indexes: frozenset[str] = frozenset()


def split_statements(lines: Iterable[str]) -> Iterator[str]:
    """Yield the statements of a script without rows, each without its comments."""
    statement: list[str] = []
    for line in lines:
        text = line.rstrip("\n")
        if not statement and (not text or text.startswith("--")):
            continue
        statement.append(text)
        if text.endswith(";") or (len(statement) == 1 and text.startswith("\\")):
            yield "\n".join(statement)
            statement = []
    if statement:
        yield "\n".join(statement)


def dump_faults(statements: Iterable[str], expected: DumpedSchema | None) -> list[str]:
    """Return what in a dump is not Homeroom's.

    ``expected`` is the schema of the dump's revision; None for the revision of a later release, of
    which only the forms of statements are checked.
    """
    faults: list[str] = []
    tables: dict[str, dict[str, str | None]] = {}
    indexes: set[str] = set()
    for statement in statements:
        if (table := _TABLE.fullmatch(statement)) is not None:
            columns = [_COLUMN.fullmatch(line) for line in table["columns"].split("\n")]
            if all(columns):
                found = [column for column in columns if column is not None]
                tables[_bare(table["name"])] = {_bare(c["name"]): c["default"] for c in found}
                continue
        elif (index := _INDEX.fullmatch(statement)) is not None:
            if _is_plain_condition(index["where"] or ""):
                indexes.add(_bare(index["name"]))
                continue
        elif _PLAIN_STATEMENTS.fullmatch(statement):
            continue
        faults.append(f"The dump holds what is not Homeroom's: {_shorten(statement)}")
    if faults or expected is None:
        return faults
    return _differences(DumpedSchema(tables, frozenset(indexes)), expected)


def _differences(found: DumpedSchema, expected: DumpedSchema) -> list[str]:
    faults = []
    for name in sorted(found.tables.keys() | expected.tables.keys()):
        ours, theirs = expected.tables.get(name), found.tables.get(name)
        if theirs is None:
            faults.append(f"The table {name} is missing.")
        elif ours is None:
            faults.append(f"The table {name} is not Homeroom's.")
        else:
            faults += [
                f"The column {name}.{column} differs from Homeroom's."
                for column in sorted(ours.keys() | theirs.keys())
                if column not in ours
                or column not in theirs
                or not _is_same_default((name, column), ours[column], theirs[column])
            ]
    for name in sorted(found.indexes ^ expected.indexes):
        state = "missing" if name in expected.indexes else "not Homeroom's"
        faults.append(f"The index {name} is {state}.")
    return faults


def _is_plain_condition(text: str) -> bool:
    """Return whether a condition compares columns and literals, and calls nothing."""
    position = 0
    while position < len(text):
        part = _WHERE_PART.match(text, position)
        if part is None:
            return False
        position = part.end()
    return True


def _bare(name: str) -> str:
    return name.strip('"')


def _is_same_default(column: tuple[str, str], ours: str | None, theirs: str | None) -> bool:
    if column in _POSTGRES_DEFAULTS:
        return theirs == _POSTGRES_DEFAULTS[column]
    return _plain_default(ours) == _plain_default(theirs)


def _plain_default(default: str | None) -> str | None:
    """Return a default without its type and quotes."""
    return None if default is None else default.partition("::")[0].strip("'\"()")


def _shorten(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + " ..."
