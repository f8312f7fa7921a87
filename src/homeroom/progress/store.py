"""All SQL of progress: the ledger, what is rolled up from it, quiz attempts, quarantine.

The statements of the hot path are text and take every key of a commit at once; rows are written in
key order, so that neighbours share pages and no two writers can deadlock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import chain

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
from homeroom.db.tx import Question, Row, Tx
from homeroom.progress.event import Event
from homeroom.progress.fold import Fold
from homeroom.progress.merge import ChapterState
from homeroom.progress.rollup import CourseState

Pair = tuple[str, str]
"""User id and course id."""
CourseKey = tuple[str, str, int]
"""User id, course id and attempt."""

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
    Column("previous", SEQ),
)
"""The ledger. ``previous`` is the ``seq`` of the same learner's row in the same course before it,
None in the first: by that chain, from ``course_progress.last_seq`` on, a learner's rows are found.
An index by learner would be a fourth of what a commit writes (decision 0011).
"""

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
    Column("last_seq", SEQ, nullable=False),
    Column("chapters", Text, nullable=False),
)
"""A learner's attempt at a course with all its chapters: what one request changes is one row
(decision 0011). ``chapters`` is a JSON object of ``ChapterState`` by chapter id.
"""

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

progress_fold = Table(
    "progress_fold",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("course_id", Text, primary_key=True),
    Column("opened_at", BigInteger, primary_key=True),
    Column("unattributed", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("time_spent", BigInteger, nullable=False),
    Column("chapters", Text, nullable=False),
    Column("quizzes", Text, nullable=False),
)
"""What the events of an attempt add up to whose ledger rows are gone (``Fold``, decision 0008)."""

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
    Index(None, "user_id"),
)

_EVENT_COLUMNS = (
    "id, user_id, course_id, chapter_id, type, progress, time_spent, quiz, occurred_at,"
    " received_at, course_version, attempt, body_hash, metadata, flags"
)
_INSERT_EVENT = (
    f"INSERT INTO progress_event (seq, {_EVENT_COLUMNS}, previous)"  # constants only
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_COURSE = (
    "INSERT INTO course_progress (user_id, course_id, attempt, version, weighted_sum,"
    " required_satisfied, satisfied, time_spent, unattributed, last_at, last_seq, chapters)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (user_id, course_id, attempt) DO UPDATE SET version = excluded.version,"
    " weighted_sum = excluded.weighted_sum, required_satisfied = excluded.required_satisfied,"
    " satisfied = excluded.satisfied, time_spent = excluded.time_spent,"
    " unattributed = excluded.unattributed, last_at = excluded.last_at,"
    " last_seq = excluded.last_seq, chapters = excluded.chapters"
)
_INSERT_QUIZ = (
    "INSERT INTO quiz_attempt (user_id, course_id, attempt, chapter_id, attempt_id, scaled,"
    " threshold, at, event_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (user_id, course_id, attempt, chapter_id, attempt_id) DO UPDATE SET"
    " scaled = excluded.scaled, threshold = excluded.threshold, at = excluded.at,"
    " event_id = excluded.event_id"
    " WHERE (excluded.at, excluded.event_id) > (quiz_attempt.at, quiz_attempt.event_id)"
)
_CHAIN = (
    "WITH RECURSIVE chain (seq, previous) AS"
    " (SELECT seq, previous FROM progress_event WHERE seq = ? UNION ALL"
    " SELECT e.seq, e.previous FROM chain JOIN progress_event AS e ON e.seq = chain.previous)"
    " SELECT seq FROM chain ORDER BY seq"
)
_LEDGER = f"SELECT seq, {_EVENT_COLUMNS} FROM progress_event"  # constants only
_IN = {
    "sqlite": "(SELECT value FROM json_each(?))",
    "postgresql": "(SELECT jsonb_array_elements_text(CAST(? AS JSONB)))",
}
_INTEGERS_IN = {
    "sqlite": _IN["sqlite"],
    "postgresql": "(SELECT CAST(jsonb_array_elements_text(CAST(? AS JSONB)) AS BIGINT))",
}
_FIND_IDS = (
    "SELECT e.id, NULL AS seq FROM {keys} AS k CROSS JOIN progress_event AS e"
    " WHERE e.id = k.column1 UNION ALL SELECT NULL, coalesce(max(seq), 0) FROM progress_event"
)
PLACES = 1_000
"""How many places in the ledger one number of PostgreSQL's sequence stands for (migration 0037):
itself and those after it. To draw 310 numbers takes the server 0.3 ms."""
_FIND_FOLDS = (
    "SELECT f.opened_at, f.unattributed, f.last_at, f.events, f.time_spent,"
    " f.chapters AS chapters_json, f.quizzes AS quizzes_json"
    " FROM {keys} AS k CROSS JOIN progress_fold AS f"
    " WHERE f.user_id = k.column1 AND f.course_id = k.column2"
)
_INSERT_FOLD = (
    "INSERT INTO progress_fold (user_id, course_id, opened_at, unattributed, last_at, events,"
    " time_spent, chapters, quizzes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_STATE = (
    "c.user_id, c.course_id, c.attempt, c.version, c.weighted_sum, c.required_satisfied,"
    " c.satisfied, c.time_spent, c.unattributed, c.last_at, c.last_seq"
)
_FIND_COURSES = (
    f"SELECT k.column2 AS wanted, {_STATE},"  # constants only
    " CASE WHEN c.course_id = k.column2 THEN c.chapters ELSE '{}' END AS chapters_json"
    " FROM {keys} AS k CROSS JOIN course_progress AS c WHERE c.user_id = k.column1"
)
_FIND_ATTEMPTS = (
    f"SELECT c.course_id AS wanted, {_STATE}, c.chapters AS chapters_json"  # constants only
    " FROM {keys} AS k CROSS JOIN course_progress AS c WHERE c.user_id = k.column1"
    " AND c.course_id = k.column2 AND c.attempt = k.column3"
)
_FIND_TOTALS = _FIND_ATTEMPTS.replace("c.chapters AS", "'{}' AS")


class _CourseRow(msgspec.Struct, array_like=True):
    wanted: str
    user_id: str
    course_id: str
    attempt: int
    version: int
    weighted_sum: int
    required_satisfied: int
    satisfied: int
    time_spent: int
    unattributed: int
    last_at: int
    last_seq: int
    chapters: dict[str, ChapterState]

    @property
    def key(self) -> CourseKey:
        return self.user_id, self.course_id, self.attempt

    def state(self) -> CourseState:
        return CourseState(
            self.version, self.weighted_sum, self.required_satisfied, self.satisfied,
            self.time_spent, self.unattributed, self.last_at, self.last_seq, self.chapters,
        )  # fmt: skip


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def look_up(tx: Tx, ids: Collection[str]) -> Question[tuple[set[str], Iterable[int]]]:
    """Ask which of some event ids the ledger has, and for places in it for the others.

    To look spares a commit the failure of the unique constraint, which is what decides (rule B2).
    The places rise, and there may be more than are needed.
    """
    keys = [(id,) for id in ids]
    if tx.dialect == "postgresql":  # where others may be taking places
        return Question(Row, _find_ids_and_draw(-(-len(keys) // PLACES)), keys, _known_and_drawn)
    return Question(Row, _FIND_IDS, keys, partial(_known_and_next_places, len(keys)))


def _find_ids_and_draw(numbers: int) -> str:
    return (
        "SELECT e.id, NULL AS seq FROM {keys} AS k CROSS JOIN progress_event AS e"
        " WHERE e.id = k.column1 UNION ALL"
        " SELECT NULL, nextval(pg_get_serial_sequence('progress_event', 'seq'))"
        f" FROM generate_series(1, {numbers})"
    )


def _known_and_drawn(rows: Sequence[Row]) -> tuple[set[str], Iterable[int]]:
    known, drawn = _known_and_numbers(rows)
    return known, chain.from_iterable(range(n, n + PLACES) for n in sorted(drawn))


def _known_and_next_places(count: int, rows: Sequence[Row]) -> tuple[set[str], Iterable[int]]:
    known, lasts = _known_and_numbers(rows)  # none for no ids, else one for each statement
    last = max(lasts, default=0)
    return known, range(last + 1, last + 1 + count)


def _known_and_numbers(rows: Sequence[Row]) -> tuple[set[str], list[int]]:
    known = {id for id, _ in rows if id is not None}
    return known, [seq for _, seq in rows if seq is not None]


async def insert_events(tx: Tx, rows: Sequence[Sequence[object]]) -> None:
    """Insert ledger rows (``event_row``) whose ids the ledger does not have.

    ``judge`` lets no control character pass in an id, and JSON has them as escapes.
    """
    await tx.executemany(_INSERT_EVENT, rows, nul_free=True)


async def events_by_id(tx: Tx, ids: Iterable[str]) -> list[Row]:
    """Return the ledger rows of some event ids, ``seq`` first."""
    return await tx.fetch(f"{_LEDGER} WHERE id IN {_IN[tx.dialect]}", (_json(sorted(ids)),))


Courses = tuple[dict[CourseKey, CourseState], dict[Pair, list[int]]]
"""All attempts of some learners' courses, and when each was last active in other courses."""


def ask_courses(pairs: Sequence[Pair]) -> Question[Courses]:
    """Ask for all attempts of some learners' courses, and when each was last active elsewhere."""
    return Question(_CourseRow, _FIND_COURSES, pairs, _courses)


def _courses(rows: Sequence[_CourseRow]) -> Courses:
    states: dict[CourseKey, CourseState] = {}
    elsewhere: dict[Pair, list[int]] = {}
    for row in rows:
        if row.course_id == row.wanted:
            states[row.key] = row.state()
        else:
            elsewhere.setdefault((row.user_id, row.wanted), []).append(row.last_at)
    return states, elsewhere


async def courses(tx: Tx, pairs: Sequence[Pair]) -> Courses:
    """Return the answer to ``ask_courses``."""
    return await tx.ask(ask_courses(pairs))


async def attempts(tx: Tx, keys: Sequence[CourseKey]) -> dict[CourseKey, CourseState]:
    """Return the states of some attempts."""
    return {row.key: row.state() for row in await tx.fetch_as(_CourseRow, _FIND_ATTEMPTS, keys)}


async def totals(tx: Tx, keys: Sequence[CourseKey]) -> dict[CourseKey, CourseState]:
    """Return the states of some attempts without their chapters."""
    return {row.key: row.state() for row in await tx.fetch_as(_CourseRow, _FIND_TOTALS, keys)}


async def save_courses(tx: Tx, states: Iterable[tuple[CourseKey, CourseState]]) -> None:
    """Write course states, which come in key order; no id has a control character in it."""
    await tx.executemany(
        _INSERT_COURSE,
        [
            (*key, state.version, state.weighted_sum, state.required_satisfied, state.satisfied,
             state.time_spent, state.unattributed, state.last_at, state.last_seq,
             _json(state.chapters))
            for key, state in states
        ],
        nul_free=True,
    )  # fmt: skip


async def save_quizzes(tx: Tx, rows: Sequence[Row]) -> None:
    """Write quiz attempts; of two reports of one attempt the later one counts, by time, then id."""
    await tx.executemany(_INSERT_QUIZ, sorted(rows))


async def carry_quizzes(tx: Tx, key: CourseKey) -> None:
    """Give an attempt's quiz attempts to the next attempt, too, which has none yet."""
    await tx.execute(
        "INSERT INTO quiz_attempt (user_id, course_id, attempt, chapter_id, attempt_id, scaled,"
        " threshold, at, event_id) SELECT user_id, course_id, attempt + 1, chapter_id, attempt_id,"
        " scaled, threshold, at, event_id FROM quiz_attempt"
        " WHERE user_id = ? AND course_id = ? AND attempt = ?",
        key,
    )


async def quizzes_of(tx: Tx, key: CourseKey) -> list[Row]:
    """Return (chapter_id, attempt_id, scaled, threshold, at) in the order of time."""
    return await tx.fetch(
        "SELECT chapter_id, attempt_id, scaled, threshold, at FROM quiz_attempt"
        " WHERE user_id = ? AND course_id = ? AND attempt = ? ORDER BY at, attempt_id",
        key,
    )


async def forget_projection(tx: Tx, pair: Pair) -> None:
    """Drop what is rolled up for one learner's course, before it is built again from the ledger."""
    for table in ("course_progress", "quiz_attempt"):
        await tx.execute(
            f"DELETE FROM {table} WHERE user_id = ? AND course_id = ?", pair
        )  # constants only


def event_row(
    seq: int, previous: int | None, event: Event, course_version: int, attempt: int
) -> tuple[object, ...]:
    """Return an event as a ledger row."""
    quiz = None if event.quiz is None else _json(event.quiz)
    return (
        # `_value_`: the driver takes several times longer over a subclass of `str`.
        seq, event.id, event.user_id, event.course_id, event.chapter_id, event.type._value_,
        event.progress, event.time_spent, quiz, event.occurred_at, event.received_at,
        course_version, attempt, event.body_hash, event.metadata, event.flags, previous,
    )  # fmt: skip


async def last_seq(tx: Tx, pair: Pair) -> int:
    """Return the latest ledger row of a learner's course; 0 where there is none."""
    [[seq]] = await tx.fetch(
        "SELECT coalesce(max(last_seq), 0) FROM course_progress"
        " WHERE user_id = ? AND course_id = ?",
        pair,
    )
    return int(seq)


async def ledger_seqs(tx: Tx, last: int) -> list[int]:
    """Return the places of a learner's course in the ledger, in recorded order, up to ``last``."""
    return [seq for (seq,) in await tx.fetch(_CHAIN, (last,))]


async def ledger_rows(tx: Tx, seqs: Sequence[int]) -> list[Row]:
    """Return the ledger rows at some places in recorded order, ``seq`` first."""
    return await tx.fetch(
        f"{_LEDGER} WHERE seq IN {_INTEGERS_IN[tx.dialect]} ORDER BY seq", (_json(list(seqs)),)
    )


async def ledger_of(tx: Tx, last: int) -> list[Row]:
    """Return a learner's whole ledger of a course in recorded order, up to its row ``last``."""
    return await ledger_rows(tx, await ledger_seqs(tx, last))


async def oldest_rows(tx: Tx, after: int, count: int) -> list[Row]:
    """Return (seq, user_id, course_id, type, received_at) of the ledger's rows after a place.

    The order is that in which they were recorded, which is roughly that of ``received_at``.
    """
    return await tx.fetch(
        "SELECT seq, user_id, course_id, type, received_at FROM progress_event WHERE seq > ?"
        " ORDER BY seq LIMIT ?",
        (after, count),
    )


async def folds_of(tx: Tx, pair: Pair) -> list[Fold]:
    """Return what is kept of the events of a learner's course whose rows are gone."""
    return await tx.fetch_as(Fold, _FIND_FOLDS, [pair])


async def save_folds(tx: Tx, pair: Pair, folds: Iterable[Fold]) -> None:
    """Put folds in the place of those that a learner's course has."""
    await tx.execute("DELETE FROM progress_fold WHERE user_id = ? AND course_id = ?", pair)
    await tx.executemany(
        _INSERT_FOLD,
        [
            (*pair, fold.opened_at, fold.unattributed, fold.last_at, fold.events, fold.time_spent,
             _json(fold.chapters), _json(fold.quizzes))
            for fold in folds
        ],
    )  # fmt: skip


async def remove_rows(tx: Tx, chain: Sequence[int], gone: Collection[int]) -> list[int]:
    """Take some rows out of a learner's chain and link the others again; return those, in order.

    ``chain`` are the places of all rows (``ledger_seqs``).
    """
    await tx.execute(
        f"DELETE FROM progress_event WHERE seq IN {_INTEGERS_IN[tx.dialect]}",
        (_json(sorted(gone)),),
    )
    kept: list[int] = []
    links: list[tuple[int | None, int]] = []
    before: int | None = None
    for seq in chain:
        if seq not in gone:
            now = kept[-1] if kept else None
            if now != before:
                links.append((now, seq))
            kept.append(seq)
        before = seq
    await tx.executemany("UPDATE progress_event SET previous = ? WHERE seq = ?", links)
    return kept


async def move_ends(tx: Tx, rows: Sequence[tuple[int, str, str, int]]) -> None:
    """Set the latest ledger rows of attempts: (last_seq, user_id, course_id, attempt)."""
    await tx.executemany(
        "UPDATE course_progress SET last_seq = ? WHERE user_id = ? AND course_id = ?"
        " AND attempt = ?",
        rows,
    )


async def quiz_reports(tx: Tx, key: CourseKey) -> list[Row]:
    """Return (chapter_id, attempt_id, scaled, threshold, at, event_id) of an attempt."""
    return await tx.fetch(
        "SELECT chapter_id, attempt_id, scaled, threshold, at, event_id FROM quiz_attempt"
        " WHERE user_id = ? AND course_id = ? AND attempt = ?",
        key,
    )
