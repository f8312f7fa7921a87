"""All SQL of courses, their versions and enrolments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    and_,
    literal,
    or_,
    select,
    text,
)

from homeroom.db.schema import metadata
from homeroom.db.tx import Question, Row, Tx

_COMPLETED = "status = 'completed'"
COURSE = Table(
    "course",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("body_hash", Text, nullable=False),
)
VERSION = Table(
    "course_version",
    metadata,
    Column("course_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body_hash", Text, nullable=False),
    Column("published_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("course_id", "version"),
)
PREREQUISITE = Table(
    "course_prerequisite",
    metadata,
    Column("requires_id", Text, nullable=False),
    Column("course_id", Text, nullable=False),
    PrimaryKeyConstraint("requires_id", "course_id"),
    sqlite_with_rowid=False,
)
ENROLMENT = Table(
    "enrolment",
    metadata,
    Column("user_id", Text, nullable=False),
    Column("course_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("enrolled_at", BigInteger, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("completed_at", BigInteger),
    Column("approved", Integer, nullable=False),
    Column("carried_over", Integer, nullable=False, server_default="0"),
    PrimaryKeyConstraint("user_id", "course_id", "attempt"),
    Index(None, "course_id", "user_id", "attempt"),
    Index(
        "ix_enrolment_completed",
        "course_id",
        "completed_at",
        "user_id",
        "attempt",
        sqlite_where=text(_COMPLETED),
        postgresql_where=text(_COMPLETED),
    ),
    sqlite_with_rowid=False,
)
Answer = TypeVar("Answer")


def current(course_ids: Collection[str]) -> Question[list[Row]]:
    """Ask for (id, version, body_hash) of those courses that exist."""
    return Question(
        Row,
        "SELECT c.id, c.version, c.body_hash FROM {keys} AS k CROSS JOIN course AS c"
        " WHERE c.id = k.column1",
        [(id,) for id in sorted(course_ids)],
        list,
    )


async def hashes(tx: Tx, versions: Collection[tuple[str, int]]) -> list[Row]:
    """Return (course_id, version, body_hash) of those versions that exist."""
    return await tx.fetch_keyed(
        "SELECT v.course_id, v.version, v.body_hash FROM {keys} AS k JOIN course_version AS v"
        " ON v.course_id = k.column1 AND v.version = k.column2",
        sorted(versions),
    )


async def versions_of(tx: Tx, course_id: str) -> list[Row]:
    """Return (version, body_hash) of all versions of a course."""
    return await tx.fetch(
        "SELECT version, body_hash FROM course_version WHERE course_id = ?", (course_id,)
    )


async def versions_with_validity(tx: Tx) -> list[Row]:
    """Return (course_id, version, body_hash) of the versions whose completions end to be valid."""
    return await tx.fetch(
        "SELECT course_id, version, body_hash FROM course_version"
        """ WHERE body LIKE '%"validity":"%' ORDER BY course_id, version"""
    )


async def hash_at(tx: Tx, course_id: str, version: int) -> str | None:
    """Return the hash of a version's body."""
    row = await tx.fetch_one(
        "SELECT body_hash FROM course_version WHERE course_id = ? AND version = ?",
        (course_id, version),
    )
    return None if row is None else row[0]


async def body(tx: Tx, course_id: str, version: int) -> str:
    """Return the JSON text of a version that exists."""
    rows = await tx.fetch(
        "SELECT body FROM course_version WHERE course_id = ? AND version = ?", (course_id, version)
    )
    return str(rows[0][0])


async def published_at(tx: Tx, course_id: str, version: int) -> int:
    """Return when a version that exists was published."""
    rows = await tx.fetch(
        "SELECT published_at FROM course_version WHERE course_id = ? AND version = ?",
        (course_id, version),
    )
    return int(rows[0][0])


async def listed(tx: Tx, after: str | None, count: int) -> list[Row]:
    """Return (id, version, body_hash, published_at) of courses by id."""
    statement = (
        select(COURSE.c.id, COURSE.c.version, COURSE.c.body_hash, VERSION.c.published_at)
        .join(
            VERSION, and_(VERSION.c.course_id == COURSE.c.id, VERSION.c.version == COURSE.c.version)
        )
        .order_by(COURSE.c.id)
        .limit(count)
    )
    if after is not None:
        statement = statement.where(COURSE.c.id > after)
    return await tx.fetch(statement)


async def add_version(tx: Tx, course_id: str, version: int, body_hash: str, text: str) -> None:
    """Insert a version, published now, and make it the current one."""
    await tx.execute(
        "INSERT INTO course_version (course_id, version, body_hash, published_at, body)"
        " VALUES (?, ?, ?, ?, ?)",
        (course_id, version, body_hash, tx.now, text),
    )
    await tx.execute(
        "INSERT INTO course (id, version, body_hash) VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE"
        " SET version = excluded.version, body_hash = excluded.body_hash",
        (course_id, version, body_hash),
    )


async def set_prerequisites(tx: Tx, course_id: str, required: Collection[str]) -> None:
    """Remember which courses a course ever asked for; learners may stay on an older version."""
    await tx.executemany(
        "INSERT INTO course_prerequisite (requires_id, course_id) VALUES (?, ?)"
        " ON CONFLICT DO NOTHING",
        [(requires_id, course_id) for requires_id in sorted(required)],
    )


async def dependents(tx: Tx, course_ids: Collection[str]) -> list[Row]:
    """Return (requires_id, course_id) of the courses that ask for one of these."""
    return await tx.fetch_keyed(
        "SELECT p.requires_id, p.course_id FROM {keys} AS k CROSS JOIN course_prerequisite AS p"
        " WHERE p.requires_id = k.column1",
        [(id,) for id in sorted(course_ids)],
    )


def enrolments(
    pairs: Collection[tuple[str, str]], read: Callable[[list[Row]], Answer]
) -> Question[Answer]:
    """Ask for the enrolments of (user, course) pairs, which come in no order."""
    return Question(
        Row,
        "SELECT e.user_id, e.course_id, e.attempt, e.version, e.status, e.enrolled_at,"
        " e.opened_at, e.completed_at, e.approved, e.carried_over"
        " FROM {keys} AS k CROSS JOIN enrolment AS e"
        " WHERE e.user_id = k.column1 AND e.course_id = k.column2",
        sorted(pairs),
        read,
    )


async def enrolments_in(
    tx: Tx, course_id: str, after: tuple[str, int] | None, count: int
) -> list[Row]:
    """Return a course's enrolments by user and attempt."""
    at = (ENROLMENT.c.user_id, ENROLMENT.c.attempt)
    statement = select(ENROLMENT).where(ENROLMENT.c.course_id == course_id)
    if after is not None:
        attempt = literal(after[1], BigInteger)  # a cursor may name one that no column holds
        statement = statement.where(or_(at[0] > after[0], and_(at[0] == after[0], at[1] > attempt)))
    return await tx.fetch(statement.order_by(*at).limit(count))


async def enrolments_of(tx: Tx, user_id: str) -> list[Row]:
    """Return a learner's enrolments by course and attempt."""
    return await tx.fetch(
        select(ENROLMENT)
        .where(ENROLMENT.c.user_id == user_id)
        .order_by(ENROLMENT.c.course_id, ENROLMENT.c.attempt)
    )


async def add_enrolments(tx: Tx, rows: Sequence[Sequence[object]]) -> int:
    """Insert enrolments; return how many were new. One that is there already stays as it is."""
    return await tx.executemany(
        "INSERT INTO enrolment (user_id, course_id, attempt, version, status, enrolled_at,"
        " opened_at, completed_at, approved, carried_over)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        rows,
    )


async def update_enrolments(tx: Tx, rows: Sequence[Sequence[object]]) -> int:
    """Set what may change, by (user, course, attempt), which come last in a row.

    A ``completed_at`` that is set stays (B9).
    """
    return await tx.executemany(
        "UPDATE enrolment SET version = ?, status = ?, opened_at = ?,"
        " completed_at = COALESCE(completed_at, ?),"
        " approved = ?, carried_over = ? WHERE user_id = ? AND course_id = ? AND attempt = ?",
        rows,
    )


async def mark_completed(tx: Tx, rows: Sequence[Sequence[object]]) -> int:
    """Complete enrolments: rows of (completed_at, user, course, attempt); only once (B9)."""
    return await tx.executemany(
        "UPDATE enrolment SET status = 'completed', completed_at = ?"
        " WHERE user_id = ? AND course_id = ? AND attempt = ? AND completed_at IS NULL",
        rows,
    )


async def completed_in(
    tx: Tx, course_id: str, until: int, after: tuple[int, str, int], count: int
) -> list[Row]:
    """Return (completed_at, user, attempt, version) of enrolments that are completed, in order.

    Those that were completed by ``until``, which is included.
    """
    return await tx.fetch(
        "SELECT completed_at, user_id, attempt, version FROM enrolment"
        f" WHERE course_id = ? AND {_COMPLETED} AND completed_at <= ?"  # constants only
        " AND (completed_at, user_id, attempt) > (?, ?, ?)"
        " ORDER BY completed_at, user_id, attempt LIMIT ?",
        (course_id, until, *after, count),
    )


async def mark_expired(tx: Tx, keys: Sequence[Sequence[object]]) -> int:
    """Let completed enrolments expire: rows of (user, course, attempt)."""
    return await tx.executemany(
        "UPDATE enrolment SET status = 'expired'"
        f" WHERE user_id = ? AND course_id = ? AND attempt = ? AND {_COMPLETED}",  # constants only
        keys,
    )
