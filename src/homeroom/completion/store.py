"""All SQL of completions, their steps and their notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    and_,
    or_,
    select,
    update,
)

from homeroom.db.schema import metadata
from homeroom.db.tx import Row, Tx

COMPLETION = Table(
    "completion",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("course_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("course_version", Integer, nullable=False),
    Column("course_title", Text, nullable=False),
    Column("completed_at", BigInteger, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("score", Integer),
    Column("time_spent", BigInteger, nullable=False),
    Column("chapters", Text, nullable=False),
    Column("superseded_by", Text),
    UniqueConstraint("user_id", "course_id", "attempt"),
    Index(None, "course_id", "recorded_at", "id"),
    Index(None, "recorded_at", "id"),
    Index(None, "completed_at", "id"),
)
_LATER = COMPLETION.alias("later")
STEP = Table(
    "completion_step",
    metadata,
    Column("completion_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("job_id", Text),
    Column("runs", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),
    Column("skip_reason", Text),
    Column("external_id", Text),
    Column("finished_at", BigInteger),
    PrimaryKeyConstraint("completion_id", "name"),
)
NOTE = Table(
    "completion_note",
    metadata,
    Column("id", Text, primary_key=True),
    Column("completion_id", Text, nullable=False),
    Column("noted_at", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Index(None, "completion_id", "id"),
)
_STEP_ORDER = (STEP.c.completion_id, STEP.c.position)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which completions are wanted; what is None does not matter. Instants are microseconds."""

    user_id: str | None = None
    course_id: str | None = None
    recorded_since: int | None = None
    completed_from: int | None = None
    completed_before: int | None = None


async def add(tx: Tx, rows: Sequence[Sequence[object]]) -> set[str]:
    """Insert completions, their id first; return the ids of those that are really new.

    The unique key (user, course, attempt) decides: a second completion is no second one (B10).
    """
    ids = {str(row[0]) for row in rows}
    added = await tx.executemany(
        "INSERT INTO completion (id, user_id, course_id, attempt, course_version, course_title,"
        " completed_at, recorded_at, score, time_spent, chapters)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        rows,
    )
    if added == len(ids):
        return ids
    found: set[str] = set()
    wanted = sorted(ids)
    for start in range(0, len(wanted), 500):
        part = select(COMPLETION.c.id).where(COMPLETION.c.id.in_(wanted[start : start + 500]))
        found.update(row[0] for row in await tx.fetch(part))
    return found


async def supersede(tx: Tx, rows: Sequence[Sequence[object]]) -> None:
    """Mark earlier attempts: rows of (new id, user, course, attempt)."""
    await tx.executemany(
        "UPDATE completion SET superseded_by = ? WHERE user_id = ? AND course_id = ?"
        " AND attempt < ? AND superseded_by IS NULL",
        rows,
    )


async def supersede_late(tx: Tx, new_ids: Sequence[str]) -> None:
    """Mark those of some new completions whose learner has completed a later attempt already."""
    await tx.execute(
        update(COMPLETION)
        .where(COMPLETION.c.id.in_(new_ids))
        .values(
            superseded_by=select(_LATER.c.id)
            .where(
                _LATER.c.user_id == COMPLETION.c.user_id,
                _LATER.c.course_id == COMPLETION.c.course_id,
                _LATER.c.attempt > COMPLETION.c.attempt,
            )
            .order_by(_LATER.c.attempt)
            .limit(1)
            .scalar_subquery()
        )
    )


async def add_steps(tx: Tx, rows: Sequence[Sequence[object]]) -> None:
    """Insert (completion, name, position, status, job, runs, attempts, skip reason, finished)."""
    await tx.executemany(
        "INSERT INTO completion_step (completion_id, name, position, status, job_id, runs,"
        " attempts, skip_reason, finished_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


async def get(tx: Tx, id: str) -> Row | None:
    """Return a completion's row."""
    return await tx.fetch_one(select(COMPLETION).where(COMPLETION.c.id == id))


async def find(tx: Tx, user_id: str, course_id: str, attempt: int | None) -> Row | None:
    """Return the completion of an attempt, or of the latest one that has any."""
    statement = select(COMPLETION).where(
        COMPLETION.c.user_id == user_id, COMPLETION.c.course_id == course_id
    )
    if attempt is not None:
        statement = statement.where(COMPLETION.c.attempt == attempt)
    return await tx.fetch_one(statement.order_by(COMPLETION.c.attempt.desc()).limit(1))


async def courses_of(tx: Tx, user_id: str) -> list[Row]:
    """Return the (course id,) of what a learner has completed in some attempt."""
    return await tx.fetch("SELECT DISTINCT course_id FROM completion WHERE user_id = ?", (user_id,))


async def newest(tx: Tx, wanted: Filter, before: tuple[int, str] | None, count: int) -> list[Row]:
    """Return completions by (recorded_at, id), newest first, before such a pair."""
    at, id = COMPLETION.c.recorded_at, COMPLETION.c.id
    statement = select(COMPLETION)
    if wanted.user_id is not None:
        statement = statement.where(COMPLETION.c.user_id == wanted.user_id)
    if wanted.course_id is not None:
        statement = statement.where(COMPLETION.c.course_id == wanted.course_id)
    if wanted.recorded_since is not None:
        statement = statement.where(at >= wanted.recorded_since)
    if before is not None:
        statement = statement.where(at <= before[0]).where(
            or_(at < before[0], and_(at == before[0], id < before[1]))
        )
    return await tx.fetch(statement.order_by(at.desc(), id.desc()).limit(count))


async def by_date(tx: Tx, wanted: Filter, after: tuple[int, str] | None, count: int) -> list[Row]:
    """Return completions by the date of completion, oldest first."""
    at, id = COMPLETION.c.completed_at, COMPLETION.c.id
    statement = select(COMPLETION)
    if wanted.completed_from is not None:
        statement = statement.where(at >= wanted.completed_from)
    if wanted.completed_before is not None:
        statement = statement.where(at < wanted.completed_before)
    if after is not None:
        statement = statement.where(at >= after[0]).where(
            or_(at > after[0], and_(at == after[0], id > after[1]))
        )
    return await tx.fetch(statement.order_by(at, id).limit(count))


async def steps(tx: Tx, completion_ids: Sequence[str]) -> list[Row]:
    """Return the steps of some completions, in the order in which they were declared."""
    found: list[Row] = []
    for start in range(0, len(completion_ids), 500):
        part = completion_ids[start : start + 500]
        found += await tx.fetch(
            select(STEP).where(STEP.c.completion_id.in_(part)).order_by(*_STEP_ORDER)
        )
    return found


async def step(tx: Tx, completion_id: str, name: str) -> Row | None:
    """Return a step that is to be changed; nobody else does so before this transaction ends."""
    return await tx.fetch_one(
        select(STEP)
        .where(STEP.c.completion_id == completion_id, STEP.c.name == name)
        .with_for_update()
    )


async def set_step(tx: Tx, completion_id: str, name: str, values: Sequence[object]) -> None:
    """Set (status, job, runs, attempts, last error, skip reason, external id, finished at)."""
    await tx.execute(
        "UPDATE completion_step SET status = ?, job_id = ?, runs = ?, attempts = ?,"
        " last_error = ?, skip_reason = ?, external_id = ?, finished_at = ?"
        " WHERE completion_id = ? AND name = ?",
        (*values, completion_id, name),
    )


async def add_note(tx: Tx, id: str, completion_id: str, text: str) -> None:
    """Insert a note."""
    await tx.execute(
        "INSERT INTO completion_note (id, completion_id, noted_at, text) VALUES (?, ?, ?, ?)",
        (id, completion_id, tx.now, text),
    )


async def notes(tx: Tx, completion_id: str) -> list[Row]:
    """Return a completion's notes as (noted_at, text), oldest first."""
    return await tx.fetch(
        "SELECT noted_at, text FROM completion_note WHERE completion_id = ? ORDER BY id",
        (completion_id,),
    )
