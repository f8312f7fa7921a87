"""Tables of courses, their versions and enrolments, and all SQL on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
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

from homeroom.catalogue.course import AttemptKey, Enrolment, LearnerCourse
from homeroom.changes import api as changes
from homeroom.db.bulk import BatchedRead
from homeroom.db.personal_data import PeopleIds, rows_owned_by
from homeroom.db.tables import column_values, metadata
from homeroom.db.tx import Row, Tx

_IS_COMPLETED = "status = 'completed'"
COURSE = Table(
    "course",
    metadata,
    Column("id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("body_hash", Text, nullable=False),
    Column("archived_at", BigInteger),  # null: open to new enrolments
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
    Column("ended_at", BigInteger),
    PrimaryKeyConstraint("user_id", "course_id", "attempt"),
    Index(None, "course_id", "user_id", "attempt"),
    Index(
        "ix_enrolment_completed",
        "course_id",
        "completed_at",
        "user_id",
        "attempt",
        sqlite_where=text(_IS_COMPLETED),
        postgresql_where=text(_IS_COMPLETED),
    ),
    sqlite_with_rowid=False,
)
PERSONAL = (rows_owned_by(ENROLMENT.c.user_id),)

_ENROLMENT_KEY = ("user_id", "course_id", "attempt")
_CHANGEABLE = ("version", "status", "opened_at", "approved", "carried_over", "ended_at")
_UPDATE_ENROLMENT = (
    f"UPDATE enrolment SET {', '.join(f'{name} = ?' for name in _CHANGEABLE)},"
    " completed_at = coalesce(completed_at, ?)"
    f" WHERE {' AND '.join(f'{name} = ?' for name in _ENROLMENT_KEY)}"
)


@dataclass(frozen=True, slots=True)
class CurrentVersion:
    """The current version of a course, without its body."""

    id: str
    version: int
    body_hash: str
    published_at: int
    archived_at: int | None


def current_versions_read(course_ids: Collection[str]) -> BatchedRead[list[Row]]:
    """Read (id, version, body_hash, archived_at) of the courses that exist."""
    return BatchedRead(
        Row,
        "SELECT c.id, c.version, c.body_hash, c.archived_at FROM {keys} AS k CROSS JOIN course AS c"
        " WHERE c.id = k.column1",
        [(id,) for id in sorted(course_ids)],
        list,
    )


async def version_hashes(tx: Tx, versions: Collection[tuple[str, int]]) -> list[Row]:
    """Return (course_id, version, body_hash) of the versions that exist."""
    return await tx.fetch_by_keys(
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
    """Return (course_id, version, body_hash) of versions with a ``validity``."""
    return await tx.fetch(
        "SELECT course_id, version, body_hash FROM course_version"
        """ WHERE body LIKE '%"validity":"%' ORDER BY course_id, version"""
    )


async def version_hash(tx: Tx, course_id: str, version: int) -> str | None:
    """Return the hash of a version's body."""
    rows = await tx.fetch(
        "SELECT body_hash FROM course_version WHERE course_id = ? AND version = ?",
        (course_id, version),
    )
    return next((str(body_hash) for (body_hash,) in rows), None)


async def version_body(tx: Tx, course_id: str, version: int) -> str:
    """Return the JSON text of a version that exists."""
    [[body]] = await tx.fetch(
        "SELECT body FROM course_version WHERE course_id = ? AND version = ?", (course_id, version)
    )
    return str(body)


async def published_at(tx: Tx, course_id: str, version: int) -> int:
    """Return the instant at which a version that exists was published."""
    [[at]] = await tx.fetch(
        "SELECT published_at FROM course_version WHERE course_id = ? AND version = ?",
        (course_id, version),
    )
    return int(at)


async def list_courses(
    tx: Tx, after: str | None, count: int, *, archived: bool
) -> list[CurrentVersion]:
    """Return up to ``count`` current versions by id, of open or archived courses."""
    is_archived = COURSE.c.archived_at.is_not(None)
    statement = (
        select(
            COURSE.c.id,
            COURSE.c.version,
            COURSE.c.body_hash,
            VERSION.c.published_at,
            COURSE.c.archived_at,
        )
        .where(is_archived if archived else ~is_archived)
        .join(
            VERSION, and_(VERSION.c.course_id == COURSE.c.id, VERSION.c.version == COURSE.c.version)
        )
        .order_by(COURSE.c.id)
        .limit(count)
    )
    if after is not None:
        statement = statement.where(COURSE.c.id > after)
    return await tx.fetch_into(CurrentVersion, statement)


async def archived_at(tx: Tx, course_id: str) -> int | None:
    """Return the instant at which a course was archived; None: it is open or unknown."""
    row = await tx.fetch_one("SELECT archived_at FROM course WHERE id = ?", (course_id,))
    return None if row is None else row[0]


async def set_archived_at(tx: Tx, course_id: str, at: int | None) -> bool:
    """Archive or reopen a course; return whether that changed it."""
    state = "IS NOT NULL" if at is None else "IS NULL"
    return bool(
        await tx.execute(
            f"UPDATE course SET archived_at = ? WHERE id = ? AND archived_at {state}",
            (at, course_id),
        )
    )


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


async def add_prerequisites(tx: Tx, course_id: str, required: Collection[str]) -> None:
    """Insert the prerequisites of a version; those of older versions stay."""
    await tx.executemany(
        "INSERT INTO course_prerequisite (requires_id, course_id) VALUES (?, ?)"
        " ON CONFLICT DO NOTHING",
        [(requires_id, course_id) for requires_id in sorted(required)],
    )


async def dependent_courses(tx: Tx, course_ids: Collection[str]) -> list[Row]:
    """Return (requires_id, course_id) of the courses with one of these prerequisites."""
    return await tx.fetch_by_keys(
        "SELECT p.requires_id, p.course_id FROM {keys} AS k CROSS JOIN course_prerequisite AS p"
        " WHERE p.requires_id = k.column1",
        [(id,) for id in sorted(course_ids)],
    )


def enrolments_read(
    pairs: Collection[LearnerCourse],
) -> BatchedRead[dict[LearnerCourse, list[Enrolment]]]:
    """Read all attempts at some learners' courses, in order.

    A course without an attempt is absent from the result.
    """
    columns = ", ".join(f"e.{name}" for name in Enrolment.__struct_fields__)
    return BatchedRead(
        Row,
        f"SELECT {columns} FROM {{keys}} AS k CROSS JOIN enrolment AS e"
        " WHERE e.user_id = k.column1 AND e.course_id = k.column2",
        sorted(pairs),
        _group_by_pair,
    )


def _group_by_pair(rows: Sequence[Row]) -> dict[LearnerCourse, list[Enrolment]]:
    by_pair: dict[LearnerCourse, list[Enrolment]] = {}
    # Not strict: flags are stored as 0 and 1.
    for enrolment in msgspec.convert(rows, list[Enrolment], strict=False):
        by_pair.setdefault((enrolment.user_id, enrolment.course_id), []).append(enrolment)
    for attempts in by_pair.values():
        if len(attempts) > 1:
            attempts.sort(key=lambda each: each.attempt)
    return by_pair


async def enrolments_in(
    tx: Tx,
    course_id: str,
    after: tuple[str, int] | None,
    count: int,
    learners: PeopleIds | None = None,
) -> list[Enrolment]:
    """Return up to ``count`` enrolments by user and attempt, after such a pair."""
    key = (ENROLMENT.c.user_id, ENROLMENT.c.attempt)
    statement = select(ENROLMENT).where(ENROLMENT.c.course_id == course_id)
    if learners is not None:
        statement = statement.where(ENROLMENT.c.user_id.in_(learners))
    if after is not None:
        user_id = after[0]
        attempt = literal(after[1], BigInteger)  # a cursor may hold one too large for the column
        statement = statement.where(
            or_(key[0] > user_id, and_(key[0] == user_id, key[1] > attempt))
        )
    return await tx.fetch_into(Enrolment, statement.order_by(*key).limit(count))


async def enrolments_of(tx: Tx, *user_ids: str) -> list[Enrolment]:
    """Return the enrolments of some learners by learner, course and attempt."""
    return await tx.fetch_into(
        Enrolment,
        select(ENROLMENT)
        .where(ENROLMENT.c.user_id.in_(user_ids))
        .order_by(ENROLMENT.c.user_id, ENROLMENT.c.course_id, ENROLMENT.c.attempt),
    )


async def add_enrolments(tx: Tx, new: Iterable[Enrolment]) -> int:
    """Insert enrolments; return how many were new. An existing one stays as it is."""
    added = list(new)
    _record_changes(tx, [(each.user_id, each.course_id, each.attempt) for each in added])
    return await tx.insert(ENROLMENT, added, on_conflict="ignore")


async def update_enrolments(tx: Tx, changed: Iterable[Enrolment]) -> int:
    """Update all that may change; a ``completed_at`` that is set stays (B9)."""
    columns = (*_CHANGEABLE, "completed_at", *_ENROLMENT_KEY)
    updated = list(changed)
    _record_changes(tx, [(each.user_id, each.course_id, each.attempt) for each in updated])
    rows = [column_values(each, columns) for each in updated]
    return await tx.executemany(_UPDATE_ENROLMENT, rows)


async def mark_completed(tx: Tx, completed: Iterable[tuple[str, str, int, int]]) -> int:
    """Complete enrolments given as (user, course, attempt, completed_at).

    Each at most once: a date that is set never changes (B9). Returns how many changed.
    """
    rows = [(at, user_id, course_id, attempt) for user_id, course_id, attempt, at in completed]
    _record_changes(tx, [key for _, *key in rows])
    return await tx.executemany(
        "UPDATE enrolment SET status = 'completed', completed_at = ?"
        " WHERE user_id = ? AND course_id = ? AND attempt = ? AND completed_at IS NULL",
        rows,
    )


async def completed_enrolments(
    tx: Tx, course_id: str, until: int, after: tuple[int, str, int], count: int
) -> list[Enrolment]:
    """Return up to ``count`` enrolments completed by ``until``, after a cursor.

    The order and the cursor are (completed_at, user_id, attempt).
    """
    return await tx.fetch_into(
        Enrolment,
        f"SELECT {', '.join(Enrolment.__struct_fields__)} FROM enrolment"
        f" WHERE course_id = ? AND {_IS_COMPLETED} AND completed_at <= ?"
        " AND (completed_at, user_id, attempt) > (?, ?, ?)"
        " ORDER BY completed_at, user_id, attempt LIMIT ?",
        (course_id, until, *after, count),
    )


async def mark_expired(tx: Tx, keys: Sequence[AttemptKey]) -> int:
    """Expire completed enrolments."""
    _record_changes(tx, keys)
    return await tx.executemany(
        "UPDATE enrolment SET status = 'expired'"
        f" WHERE user_id = ? AND course_id = ? AND attempt = ? AND {_IS_COMPLETED}",
        keys,
    )


async def list_by_keys(tx: Tx, keys: Sequence[AttemptKey]) -> list[Enrolment]:
    """Return the enrolments that exist of some (user, course, attempt)."""
    columns = ", ".join(f"e.{name}" for name in Enrolment.__struct_fields__)
    rows = await tx.fetch_by_keys(
        f"SELECT {columns} FROM {{keys}} AS k CROSS JOIN enrolment AS e"
        " WHERE e.user_id = k.column1 AND e.course_id = k.column2 AND e.attempt = k.column3",
        keys,
    )
    return msgspec.convert(rows, list[Enrolment], strict=False)


def enrolment_record_id(user_id: str, course_id: str, attempt: int) -> str:
    """Return the id of an enrolment in the feed of changes."""
    return changes.record_id(course_id, user_id, attempt)


def _record_changes(tx: Tx, keys: Iterable[Sequence[Any]]) -> None:
    changes.record(tx, changes.ENROLMENTS, [(enrolment_record_id(*key), key[0]) for key in keys])
