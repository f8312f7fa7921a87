"""All SQL of progress: the ledger, what is rolled up from it, quiz attempts, quarantine.

The statements of the hot path are text and take every key of a commit at once; rows are written in
key order, so that neighbours share pages and no two writers can deadlock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from homeroom.db.schema import SEQ, metadata
from homeroom.db.tx import Row, Tx
from homeroom.progress.event import Event
from homeroom.progress.merge import ChapterState
from homeroom.progress.rollup import CourseState

Pair = tuple[str, str]
"""User id and course id."""
CourseKey = tuple[str, str, int]
"""User id, course id and attempt."""
ChapterKey = tuple[str, str, int, str]
"""User id, course id, attempt and chapter id."""

progress_event = Table(
    "progress_event",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("user_id", Text, nullable=False),
    Column("course_id", Text, nullable=False),
    Column("chapter_id", Text),
    Column("type", Text, nullable=False),
    Column("progress", Integer),
    Column("time_spent", Integer, nullable=False),
    Column("quiz", Text),
    Column("occurred_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("course_version", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("body_hash", LargeBinary, nullable=False),
    Column("metadata", Text),
    Column("flags", Integer, nullable=False),
)

ledger_part = Table(
    "ledger_part",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("course_id", Text, primary_key=True),
    Column("first_seq", SEQ, primary_key=True),
    Column("last_seq", SEQ, nullable=False),
    sqlite_with_rowid=False,
)
"""Where in the ledger a learner's course is: the first and last ``seq`` of each commit.

An index of the ledger by learner held a row an event, in an order that has nothing to do with that
of the ledger: it was a fourth of what a commit wrote and of its time (decision 0009).
"""

chapter_progress = Table(
    "chapter_progress",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("course_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("chapter_id", Text, primary_key=True),
    Column("progress", Integer, nullable=False),
    Column("time_spent", BigInteger, nullable=False),
    Column("completed_at", BigInteger),
    Column("passed_at", BigInteger),
    Column("last_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

course_progress = Table(
    "course_progress",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("course_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("weighted_sum", BigInteger, nullable=False),
    Column("required_satisfied", Integer, nullable=False),
    Column("satisfied", Integer, nullable=False),
    Column("time_spent", BigInteger, nullable=False),
    Column("unattributed", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Index(None, "course_id", "user_id"),
    sqlite_with_rowid=False,
)

quiz_attempt = Table(
    "quiz_attempt",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("course_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("chapter_id", Text, primary_key=True),
    Column("attempt_id", Text, primary_key=True),
    Column("scaled", Integer, nullable=False),
    Column("threshold", Integer),
    Column("at", BigInteger, nullable=False),
    Column("event_id", Text, nullable=False),
    sqlite_with_rowid=False,
)

progress_quarantine = Table(
    "progress_quarantine",
    metadata,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("body_hash", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("course_id", Text, nullable=False),
    Column("chapter_id", Text),
    Column("event", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    UniqueConstraint("id", "body_hash"),
    Index(None, "course_id"),
)

_EVENT_COLUMNS = (
    "id, user_id, course_id, chapter_id, type, progress, time_spent, quiz, occurred_at,"
    " received_at, course_version, attempt, body_hash, metadata, flags"
)
_INSERT_EVENT = (
    f"INSERT INTO progress_event ({_EVENT_COLUMNS})"  # constants only
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)
_INSERT_CHAPTER = (
    "INSERT INTO chapter_progress (user_id, course_id, attempt, chapter_id, progress, time_spent,"
    " completed_at, passed_at, last_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (user_id, course_id, attempt, chapter_id) DO UPDATE SET"
    " progress = excluded.progress, time_spent = excluded.time_spent,"
    " completed_at = excluded.completed_at, passed_at = excluded.passed_at,"
    " last_at = excluded.last_at"
)
_INSERT_COURSE = (
    "INSERT INTO course_progress (user_id, course_id, attempt, version, weighted_sum,"
    " required_satisfied, satisfied, time_spent, unattributed, last_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (user_id, course_id, attempt) DO UPDATE SET version = excluded.version,"
    " weighted_sum = excluded.weighted_sum, required_satisfied = excluded.required_satisfied,"
    " satisfied = excluded.satisfied, time_spent = excluded.time_spent,"
    " unattributed = excluded.unattributed, last_at = excluded.last_at"
)
_INSERT_QUIZ = (
    "INSERT INTO quiz_attempt (user_id, course_id, attempt, chapter_id, attempt_id, scaled,"
    " threshold, at, event_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (user_id, course_id, attempt, chapter_id, attempt_id) DO UPDATE SET"
    " scaled = excluded.scaled, threshold = excluded.threshold, at = excluded.at,"
    " event_id = excluded.event_id"
    " WHERE (excluded.at, excluded.event_id) > (quiz_attempt.at, quiz_attempt.event_id)"
)
_LEDGER = (
    f"SELECT e.seq, {', '.join('e.' + name for name in _EVENT_COLUMNS.split(', '))}"
    # The parts are read first, whatever the planner thinks of them.
    " FROM ledger_part AS p CROSS JOIN progress_event AS e"
    " WHERE p.user_id = ? AND p.course_id = ? AND p.last_seq > ? AND e.seq > ?"
    " AND e.seq BETWEEN p.first_seq AND p.last_seq"
    " AND e.user_id = p.user_id AND e.course_id = p.course_id ORDER BY e.seq LIMIT ?"
)
_PARTS_SINCE = (
    "SELECT user_id, course_id, min(seq), max(seq) FROM progress_event WHERE seq > ?"
    " GROUP BY user_id, course_id"
)
_INSERT_PART = (
    "INSERT INTO ledger_part (user_id, course_id, first_seq, last_seq) VALUES (?, ?, ?, ?)"
)
_EVENT_TYPES = (
    "text", "text", "text", "text", "text", "int", "int", "text", "bigint",
    "bigint", "int", "int", "bytea", "text", "int",
)  # fmt: skip
_INSERT_EVENTS_AND_PARTS = (
    f"WITH added AS (INSERT INTO progress_event ({_EVENT_COLUMNS})"  # constants only
    f" SELECT * FROM unnest({', '.join(f'CAST(? AS {each}[])' for each in _EVENT_TYPES)})"
    " ON CONFLICT (id) DO NOTHING RETURNING seq, id, user_id, course_id),"
    " parts AS (INSERT INTO ledger_part (user_id, course_id, first_seq, last_seq)"
    " SELECT user_id, course_id, min(seq), max(seq) FROM added GROUP BY user_id, course_id)"
    " SELECT id FROM added"
)
"""For PostgreSQL, where others insert at the same moment: what came after the highest ``seq`` that
was seen before need not be ours, so the statement itself says what it has added."""
_FIND_CHAPTERS = (
    "SELECT c.user_id, c.course_id, c.attempt, c.chapter_id, c.progress, c.time_spent,"
    " c.completed_at, c.passed_at, c.last_at FROM {keys} AS k JOIN chapter_progress AS c"
    " ON c.user_id = k.column1 AND c.course_id = k.column2 AND c.attempt = k.column3"
    " AND c.chapter_id = k.column4"
)
_FIND_COURSES = (
    "SELECT c.user_id, c.course_id, c.attempt, c.version, c.weighted_sum, c.required_satisfied,"
    " c.satisfied, c.time_spent, c.unattributed, c.last_at"
    " FROM {keys} AS k JOIN course_progress AS c ON c.user_id = k.column1"
)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


async def insert_events(tx: Tx, rows: Sequence[Sequence[object]]) -> set[str]:
    """Insert ledger rows and return the ids of those that the ledger had already.

    The unique constraint decides, not a look beforehand (rule B2). ``rows`` hold no id twice.
    """
    if tx.dialect == "postgresql":
        added = await tx.fetch(_INSERT_EVENTS_AND_PARTS, list(zip(*rows, strict=True)))
        return {str(row[0]) for row in rows} - {id for (id,) in added}
    [[before]] = await tx.fetch("SELECT coalesce(max(seq), 0) FROM progress_event")
    count = await tx.executemany(_INSERT_EVENT, rows)
    await tx.executemany(_INSERT_PART, await tx.fetch(_PARTS_SINCE, (before,)))
    if count == len(rows):
        return set()
    added = await tx.fetch("SELECT id FROM progress_event WHERE seq > ?", (before,))
    return {str(row[0]) for row in rows} - {id for (id,) in added}


async def stored_hashes(tx: Tx, ids: Iterable[str]) -> dict[str, bytes]:
    """Return the body hash of each id that the ledger has."""
    rows = await tx.fetch_keyed(
        "SELECT e.id, e.body_hash FROM {keys} AS k JOIN progress_event AS e ON e.id = k.column1",
        [(id,) for id in sorted(ids)],
    )
    return {id: bytes(body_hash) for id, body_hash in rows}


async def chapters(tx: Tx, keys: Sequence[ChapterKey]) -> dict[ChapterKey, ChapterState]:
    """Return the chapters that have a row, for any number of keys in one statement."""
    rows = await tx.fetch_keyed(_FIND_CHAPTERS, keys)
    return {(row[0], row[1], row[2], row[3]): ChapterState(*row[4:]) for row in rows}


async def chapters_of(tx: Tx, key: CourseKey) -> dict[str, ChapterState]:
    """Return all chapters of one learner's attempt at a course, by chapter id."""
    rows = await tx.fetch(
        "SELECT chapter_id, progress, time_spent, completed_at, passed_at, last_at"
        " FROM chapter_progress WHERE user_id = ? AND course_id = ? AND attempt = ?",
        key,
    )
    return {row[0]: ChapterState(*row[1:]) for row in rows}


async def courses(tx: Tx, users: Collection[str]) -> dict[CourseKey, CourseState]:
    """Return the states of all courses and attempts of some learners."""
    rows = await tx.fetch_keyed(_FIND_COURSES, [(user,) for user in sorted(users)])
    return {(row[0], row[1], row[2]): CourseState(*row[3:]) for row in rows}


async def save_chapters(tx: Tx, states: dict[ChapterKey, ChapterState]) -> None:
    """Write chapters, in key order."""
    await tx.executemany(
        _INSERT_CHAPTER,
        [
            (*key, state.progress, state.time_spent, state.completed_at, state.passed_at,
             state.last_at)
            for key, state in sorted(states.items(), key=_by_key)
        ],
    )  # fmt: skip


async def save_courses(tx: Tx, states: dict[CourseKey, CourseState]) -> None:
    """Write course states, in key order."""
    await tx.executemany(
        _INSERT_COURSE,
        [
            (*key, state.version, state.weighted_sum, state.required_satisfied, state.satisfied,
             state.time_spent, state.unattributed, state.last_at)
            for key, state in sorted(states.items(), key=_by_key)
        ],
    )  # fmt: skip


def _by_key(item: tuple[tuple[object, ...], object]) -> tuple[object, ...]:
    return item[0]


async def save_quizzes(tx: Tx, rows: Sequence[Row]) -> None:
    """Write quiz attempts; of two reports of one attempt the later one counts, by time, then id."""
    await tx.executemany(_INSERT_QUIZ, sorted(rows))


async def quizzes_of(tx: Tx, key: CourseKey) -> list[Row]:
    """Return (chapter_id, attempt_id, scaled, threshold, at) in the order of time."""
    return await tx.fetch(
        "SELECT chapter_id, attempt_id, scaled, threshold, at FROM quiz_attempt"
        " WHERE user_id = ? AND course_id = ? AND attempt = ? ORDER BY at, attempt_id",
        key,
    )


async def forget_projection(tx: Tx, pair: Pair) -> None:
    """Drop what is rolled up for one learner's course, before it is built again from the ledger."""
    for table in ("chapter_progress", "course_progress", "quiz_attempt"):
        await tx.execute(
            f"DELETE FROM {table} WHERE user_id = ? AND course_id = ?", pair
        )  # constants only


def event_row(event: Event, course_version: int, attempt: int) -> tuple[object, ...]:
    """Return an event as a ledger row."""
    quiz = None if event.quiz is None else _json(event.quiz)
    return (
        event.id, event.user_id, event.course_id, event.chapter_id, event.type.value,
        event.progress, event.time_spent, quiz, event.occurred_at, event.received_at,
        course_version, attempt, event.body_hash, event.metadata, event.flags,
    )  # fmt: skip


async def ledger_of(tx: Tx, pair: Pair, after: int = 0, limit: int = 1_000_000) -> list[Row]:
    """Return one learner's ledger rows of a course in recorded order, ``seq`` first."""
    return await tx.fetch(
        _LEDGER,
        (*pair, after, after, limit),
    )
