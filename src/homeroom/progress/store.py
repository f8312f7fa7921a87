"""Tables of progress, and the SQL of its ledger, snapshots and quiz attempts.

``ingest_store`` holds the statements of the hot path, ``quarantine`` those of its own table.
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
    insert,
    select,
)

from homeroom.catalogue.api import AttemptKey, LearnerCourse
from homeroom.db.tables import SEQUENCE_TYPE, metadata
from homeroom.db.tx import Tx
from homeroom.progress.replay import AttemptSnapshot, LedgerRow
from homeroom.progress.rollup import QuizAttempt

progress_event = Table(
    "progress_event",
    metadata,
    Column("seq", SEQUENCE_TYPE, primary_key=True, autoincrement=True),
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
    Column("previous", SEQUENCE_TYPE),
    Column("corrected_at", BigInteger),
)
"""The ledger. ``previous`` is the ``seq`` of the learner's row before it in the same course, None
in the first. This chain, which starts at ``course_progress.last_seq``, finds a learner's rows: an
index by learner would be a fourth of all that a commit writes (decision 0011). ``corrected_at`` is
the time that counts where the device's clock was wrong; ``occurred_at`` stays as it was sent.
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
    Column("last_seq", SEQUENCE_TYPE, nullable=False),
    Column("chapters", Text, nullable=False),
)
"""A learner's attempt at a course with all its chapters, so that a request changes one row
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
"""The sum of an attempt's compacted events (``AttemptSnapshot``, decision 0008)."""

progress_quarantine = Table(
    "progress_quarantine",
    metadata,
    Column("seq", SEQUENCE_TYPE, primary_key=True, autoincrement=True),
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

_LEDGER_CHAIN = (
    "WITH RECURSIVE chain (seq, previous) AS"
    " (SELECT seq, previous FROM progress_event WHERE seq = ? UNION ALL"
    " SELECT e.seq, e.previous FROM chain JOIN progress_event AS e ON e.seq = chain.previous)"
    " SELECT seq FROM chain ORDER BY seq"
)
_SELECT_LEDGER = f"SELECT {', '.join(LedgerRow.__struct_fields__)} FROM progress_event"
# One JSON text names any number of ids: both databases limit the values of a statement.
_TEXT_LIST = {
    "sqlite": "(SELECT value FROM json_each(?))",
    "postgresql": "(SELECT jsonb_array_elements_text(CAST(? AS JSONB)))",
}
_INTEGER_LIST = {
    "sqlite": _TEXT_LIST["sqlite"],
    "postgresql": "(SELECT CAST(jsonb_array_elements_text(CAST(? AS JSONB)) AS BIGINT))",
}


class LedgerScanRow(msgspec.Struct, frozen=True):
    """The columns of a ledger row that decide whether it can be compacted."""

    seq: int
    user_id: str
    course_id: str
    type: str
    """Not an ``EventType``: one unknown value must not end the scan of the others."""
    received_at: int


async def events_by_id(tx: Tx, ids: Iterable[str]) -> list[LedgerRow]:
    """Return the ledger rows of some event ids."""
    return await tx.fetch_into(
        LedgerRow,
        f"{_SELECT_LEDGER} WHERE id IN {_TEXT_LIST[tx.dialect]}",
        (json_text(sorted(ids)),),
    )


async def find_last_seq(tx: Tx, pair: LearnerCourse) -> int:
    """Return the ``seq`` of the latest ledger row of a learner's course, or 0."""
    [[seq]] = await tx.fetch(
        "SELECT coalesce(max(last_seq), 0) FROM course_progress"
        " WHERE user_id = ? AND course_id = ?",
        pair,
    )
    return int(seq)


async def ledger_seqs(tx: Tx, last_seq: int) -> list[int]:
    """Return the ``seq`` of a learner's ledger rows, ascending, to ``last_seq``."""
    return [seq for (seq,) in await tx.fetch(_LEDGER_CHAIN, (last_seq,))]


async def ledger_rows(tx: Tx, seqs: Sequence[int]) -> list[LedgerRow]:
    """Return the ledger rows with these ``seq``, ascending."""
    return await tx.fetch_into(
        LedgerRow,
        f"{_SELECT_LEDGER} WHERE seq IN {_INTEGER_LIST[tx.dialect]} ORDER BY seq",
        (json_text(list(seqs)),),
    )


async def ledger_of(tx: Tx, last_seq: int) -> list[LedgerRow]:
    """Return all ledger rows of a learner's course, ascending, to ``last_seq``."""
    return await ledger_rows(tx, await ledger_seqs(tx, last_seq))


async def scan_ledger(tx: Tx, after: int, count: int) -> list[LedgerScanRow]:
    """Return up to ``count`` ledger rows after a ``seq``, roughly by ``received_at``."""
    table = progress_event
    columns = [table.c[name] for name in LedgerScanRow.__struct_fields__]
    statement = select(*columns).where(table.c.seq > after).order_by(table.c.seq).limit(count)
    return await tx.fetch_into(LedgerScanRow, statement)


async def delete_ledger_rows(tx: Tx, chain: Sequence[int], gone: Collection[int]) -> list[int]:
    """Delete rows from a learner's chain and link the others; return those left.

    ``chain`` holds the ``seq`` of all rows (``ledger_seqs``).
    """
    await tx.execute(
        f"DELETE FROM progress_event WHERE seq IN {_INTEGER_LIST[tx.dialect]}",
        (json_text(sorted(gone)),),
    )
    remaining: list[int] = []
    links: list[tuple[int | None, int]] = []
    old_previous: int | None = None
    for seq in chain:
        if seq not in gone:
            previous = remaining[-1] if remaining else None
            if previous != old_previous:
                links.append((previous, seq))
            remaining.append(seq)
        old_previous = seq
    await tx.executemany("UPDATE progress_event SET previous = ? WHERE seq = ?", links)
    return remaining


async def set_last_seqs(tx: Tx, last_seqs: Iterable[tuple[AttemptKey, int]]) -> None:
    """Set the ``last_seq`` of attempts."""
    await tx.executemany(
        "UPDATE course_progress SET last_seq = ? WHERE user_id = ? AND course_id = ?"
        " AND attempt = ?",
        [(seq, *key) for key, seq in last_seqs],
    )


async def snapshots_of(tx: Tx, pair: LearnerCourse) -> list[AttemptSnapshot]:
    """Return the snapshots of a learner's course, one an attempt."""
    columns = [progress_fold.c[name] for name in AttemptSnapshot.__struct_fields__]
    user_id, course_id = pair
    return await tx.fetch_into(
        AttemptSnapshot,
        select(*columns).where(
            progress_fold.c.user_id == user_id, progress_fold.c.course_id == course_id
        ),
    )


async def save_snapshots(tx: Tx, pair: LearnerCourse, snapshots: Sequence[AttemptSnapshot]) -> None:
    """Replace the snapshots of a learner's course."""
    user_id, course_id = pair
    await tx.execute("DELETE FROM progress_fold WHERE user_id = ? AND course_id = ?", pair)
    await tx.insert(progress_fold, snapshots, user_id=user_id, course_id=course_id)


async def quiz_attempts_of(tx: Tx, key: AttemptKey) -> list[QuizAttempt]:
    """Return the quiz attempts of an attempt that count, ascending by time."""
    table = quiz_attempt
    user_id, course_id, attempt = key
    columns = [table.c[name] for name in QuizAttempt.__struct_fields__]
    return await tx.fetch_into(
        QuizAttempt,
        select(*columns)
        .where(
            table.c.user_id == user_id, table.c.course_id == course_id, table.c.attempt == attempt
        )
        .order_by(table.c.at, table.c.attempt_id),
    )


async def copy_quiz_attempts(tx: Tx, key: AttemptKey) -> None:
    """Copy an attempt's quiz attempts to the next attempt, which has none yet."""
    table = quiz_attempt
    user_id, course_id, attempt = key
    copied = select(
        *(column + 1 if column is table.c.attempt else column for column in table.c)
    ).where(table.c.user_id == user_id, table.c.course_id == course_id, table.c.attempt == attempt)
    await tx.execute(insert(table).from_select(table.c.keys(), copied))


async def delete_rollups(tx: Tx, pair: LearnerCourse) -> None:
    """Delete the rolled-up rows of a learner's course, which the ledger makes again."""
    for table in ("course_progress", "quiz_attempt"):
        await tx.execute(f"DELETE FROM {table} WHERE user_id = ? AND course_id = ?", pair)


def json_text(value: object) -> str:
    """Return a value as JSON text, as columns and lists of ids hold it."""
    return msgspec.json.encode(value).decode()
