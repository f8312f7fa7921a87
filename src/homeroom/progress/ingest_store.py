"""Statements of the ingest hot path: all keys of a commit, rows by position.

This is the one module of ``progress`` that maps rows by position: by name takes ten times as long,
for every event. Rows are written in key order, so that neighbours share pages and no two writers
can deadlock. Columns named ``..._json`` come last and arrive decoded (``db.bulk``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import chain

import msgspec

from homeroom.catalogue.api import AttemptKey, LearnerCourse
from homeroom.db.bulk import BatchedRead, bulk_tx
from homeroom.db.tables import insert_sql
from homeroom.db.tx import Row, Tx
from homeroom.progress.event import EventFlag, ProgressEvent
from homeroom.progress.rollup import ChapterState, CourseState, QuizAttempt
from homeroom.progress.store import course_progress, json_text, progress_event, quiz_attempt

_CORRECTED = int(EventFlag.CLOCK_CORRECTED)
SEQ_BLOCK_SIZE = 1_000
"""Ledger ``seq`` for which one number of PostgreSQL's sequence stands (migration 0037): itself and
those after it. Drawing 310 numbers takes the server 0.3 ms."""

_INSERT_EVENT = insert_sql(progress_event, tuple(progress_event.c.keys()), "fail", ())
_INSERT_COURSE = insert_sql(course_progress, tuple(course_progress.c.keys()), "update", ())
_INSERT_QUIZ = (
    insert_sql(quiz_attempt, tuple(quiz_attempt.c.keys()), "update", ())
    + " WHERE (excluded.at, excluded.event_id) > (quiz_attempt.at, quiz_attempt.event_id)"
)
_FIND_KNOWN_IDS = (
    "SELECT e.id, NULL AS seq FROM {keys} AS k CROSS JOIN progress_event AS e"
    " WHERE e.id = k.column1 UNION ALL SELECT NULL, coalesce(max(seq), 0) FROM progress_event"
)
_STATE_COLUMNS = ", ".join(
    f"c.{column.name}" for column in course_progress.c if column.name != "chapters"
)
_FIND_COURSES = (
    f"SELECT k.column2 AS requested_id, {_STATE_COLUMNS},"  # noqa: S608  # constants only
    " CASE WHEN c.course_id = k.column2 THEN c.chapters ELSE '{}' END AS chapters_json"
    " FROM {keys} AS k CROSS JOIN course_progress AS c WHERE c.user_id = k.column1"
)
_FIND_ATTEMPTS = (
    f"SELECT c.course_id AS requested_id, {_STATE_COLUMNS}, c.chapters AS chapters_json"  # noqa: S608  # constants only
    " FROM {keys} AS k CROSS JOIN course_progress AS c WHERE c.user_id = k.column1"
    " AND c.course_id = k.column2 AND c.attempt = k.column3"
)
_FIND_TOTALS = _FIND_ATTEMPTS.replace("c.chapters AS", "'{}' AS")

CourseStates = tuple[dict[AttemptKey, CourseState], dict[LearnerCourse, list[int]]]
"""All attempts at some learners' courses, and the times of activity in other courses."""


class _CourseRow(msgspec.Struct, array_like=True):
    """A row of ``course_progress``, after the id of the requested course."""

    requested_id: str
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
    def key(self) -> AttemptKey:
        return self.user_id, self.course_id, self.attempt

    def state(self) -> CourseState:
        return CourseState(
            self.version, self.weighted_sum, self.required_satisfied, self.satisfied,
            self.time_spent, self.unattributed, self.last_at, self.last_seq, self.chapters,
        )  # fmt: skip


def known_ids_read(tx: Tx, ids: Collection[str]) -> BatchedRead[tuple[set[str], Iterable[int]]]:
    """Find the event ids that the ledger has, and reserve a ``seq`` for others.

    The unique constraint decides (rule B2); this read spares the commit its failure. The ``seq``
    ascend, and there may be more of them than needed.
    """
    keys = [(id,) for id in ids]
    if tx.dialect == "postgresql":  # other servers may reserve at the same time
        blocks = -(-len(keys) // SEQ_BLOCK_SIZE)
        return BatchedRead(Row, _find_ids_and_reserve_seqs(blocks), keys, _known_and_reserved)
    return BatchedRead(Row, _FIND_KNOWN_IDS, keys, partial(_known_and_next_seqs, len(keys)))


def _find_ids_and_reserve_seqs(blocks: int) -> str:
    return (
        "SELECT e.id, NULL AS seq FROM {keys} AS k CROSS JOIN progress_event AS e"  # noqa: S608  # a number
        " WHERE e.id = k.column1 UNION ALL"
        " SELECT NULL, nextval(pg_get_serial_sequence('progress_event', 'seq'))"
        f" FROM generate_series(1, {blocks})"
    )


def _known_and_reserved(rows: Sequence[Row]) -> tuple[set[str], Iterable[int]]:
    known, firsts = _known_and_seqs(rows)
    return known, chain.from_iterable(range(n, n + SEQ_BLOCK_SIZE) for n in sorted(firsts))


def _known_and_next_seqs(count: int, rows: Sequence[Row]) -> tuple[set[str], Iterable[int]]:
    known, lasts = _known_and_seqs(rows)  # one for each statement; none where there are no ids
    last = max(lasts, default=0)
    return known, range(last + 1, last + 1 + count)


def _known_and_seqs(rows: Sequence[Row]) -> tuple[set[str], list[int]]:
    known = {id for id, _ in rows if id is not None}
    return known, [seq for _, seq in rows if seq is not None]


def event_row(
    seq: int, previous: int | None, event: ProgressEvent, course_version: int, attempt: int
) -> tuple[object, ...]:
    """Return an event as a row of ``progress_event``."""
    quiz = None if event.quiz is None else json_text(event.quiz)
    return (
        # `_value_`: the driver takes several times as long for a subclass of `str`.
        seq, event.id, event.user_id, event.course_id, event.chapter_id, event.type._value_,
        event.progress, event.time_spent, quiz, event.occurred_at, event.received_at,
        course_version, attempt, event.body_hash, event.metadata, event.flags, previous,
        event.at if event.flags & _CORRECTED else None,
    )  # fmt: skip


async def insert_events(tx: Tx, rows: Sequence[Sequence[object]]) -> None:
    """Insert ledger rows (``event_row``) whose ids the ledger does not have.

    No text in them holds a NUL: ``validate_event`` rejects control characters in ids, and JSON
    escapes them.
    """
    await bulk_tx(tx).executemany(_INSERT_EVENT, rows, nul_free=True)


def course_states_read(pairs: Sequence[LearnerCourse]) -> BatchedRead[CourseStates]:
    """Read all attempts at some learners' courses, and activity in other courses."""
    return BatchedRead(_CourseRow, _FIND_COURSES, pairs, _course_states_of)


def _course_states_of(rows: Sequence[_CourseRow]) -> CourseStates:
    states: dict[AttemptKey, CourseState] = {}
    other_activity: dict[LearnerCourse, list[int]] = {}
    for row in rows:
        if row.course_id == row.requested_id:
            states[row.key] = row.state()
        else:
            other_activity.setdefault((row.user_id, row.requested_id), []).append(row.last_at)
    return states, other_activity


async def course_states(tx: Tx, pairs: Sequence[LearnerCourse]) -> CourseStates:
    """Return the result of ``course_states_read``."""
    return await bulk_tx(tx).fetch_batch(course_states_read(pairs))


async def attempt_states(tx: Tx, keys: Sequence[AttemptKey]) -> dict[AttemptKey, CourseState]:
    """Return the states of attempts."""
    rows = await bulk_tx(tx).fetch_by_keys_into(_CourseRow, _FIND_ATTEMPTS, keys)
    return {row.key: row.state() for row in rows}


async def attempt_totals(tx: Tx, keys: Sequence[AttemptKey]) -> dict[AttemptKey, CourseState]:
    """Return the states of attempts without their chapters."""
    rows = await bulk_tx(tx).fetch_by_keys_into(_CourseRow, _FIND_TOTALS, keys)
    return {row.key: row.state() for row in rows}


async def save_course_states(tx: Tx, states: Iterable[tuple[AttemptKey, CourseState]]) -> None:
    """Insert or update course states, which come in key order; no id holds a NUL."""
    await bulk_tx(tx).executemany(
        _INSERT_COURSE,
        [
            (*key, state.version, state.weighted_sum, state.required_satisfied, state.satisfied,
             state.time_spent, state.unattributed, state.last_at, state.last_seq,
             json_text(state.chapters))
            for key, state in states
        ],
        nul_free=True,
    )  # fmt: skip


async def save_quiz_attempts(tx: Tx, quizzes: Iterable[tuple[AttemptKey, QuizAttempt]]) -> None:
    """Insert or update quiz attempts; the latest report wins, by time, then by id."""
    rows = [(*key, *msgspec.structs.astuple(quiz)) for key, quiz in quizzes]
    await tx.executemany(_INSERT_QUIZ, sorted(rows))
