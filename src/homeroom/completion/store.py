"""All SQL of completions, their steps and their notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Select,
    Table,
    Text,
    UniqueConstraint,
    and_,
    or_,
    select,
    update,
)

from homeroom.changes import api as changes
from homeroom.completion.completion import Completion, StepState
from homeroom.db.personal_data import PeopleIds, PersonalRows, rows_locked_first, rows_owned_by
from homeroom.db.snapshot import assign_transaction_number
from homeroom.db.tables import metadata
from homeroom.db.tx import Tx
from homeroom.jobs import api as jobs

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
_LATER_COMPLETION = COMPLETION.alias("later")
COMPLETION_STEP = Table(
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
    Column("skip_code", Text),
    PrimaryKeyConstraint("completion_id", "name"),
    Index(None, "status", "name", "completion_id"),
)
COMPLETION_NOTE = Table(
    "completion_note",
    metadata,
    Column("id", Text, primary_key=True),
    Column("completion_id", Text, nullable=False),
    Column("noted_at", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Index(None, "completion_id", "id"),
)
_STEP_ORDER = (COMPLETION_STEP.c.completion_id, COMPLETION_STEP.c.position)
_IDS_PER_STATEMENT = 500


@dataclass(frozen=True, slots=True)
class CompletionFilter:
    """A selection of completions; None matches all. Instants are microseconds."""

    user_id: str | None = None
    course_id: str | None = None
    recorded_since: int | None = None
    recorded_until: int | None = None
    completed_from: int | None = None
    completed_before: int | None = None
    learners: PeopleIds | None = None


async def add(tx: Tx, completions: Sequence[Completion]) -> set[str]:
    """Insert completions; return the ids of those that are new.

    The unique key (user, course, attempt) decides: the first completion of an attempt stays (B10).
    """
    ids = sorted({completion.id for completion in completions})
    if await tx.insert(COMPLETION, completions, on_conflict="ignore") == len(ids):
        return set(ids)
    added: set[str] = set()
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        part = ids[start : start + _IDS_PER_STATEMENT]
        rows = await tx.fetch(select(COMPLETION.c.id).where(COMPLETION.c.id.in_(part)))
        added.update(id for (id,) in rows)
    return added


async def recording_time(tx: Tx) -> int:
    """Return the ``recorded_at`` of this transaction's completions.

    It is later than that of every completion that is committed by now, whatever the clocks of the
    machines show: a poller that has seen those with ``since`` finds these (decision 0024). On
    PostgreSQL ``wait_for_recording`` waits for this transaction from here on, because it has a
    number before it reads.
    """
    await assign_transaction_number(tx)
    return max(tx.now, await latest_recorded(tx) + 1)


async def latest_recorded(tx: Tx) -> int:
    """Return the latest ``recorded_at`` of all completions, -1 without any."""
    [(latest,)] = await tx.fetch("SELECT max(recorded_at) FROM completion")
    return -1 if latest is None else int(latest)


async def supersede_earlier(tx: Tx, completions: Sequence[Completion]) -> None:
    """Mark the completions of earlier attempts as superseded by these."""
    if not completions:
        return
    earlier = await tx.fetch_by_keys(
        "SELECT c.id, c.user_id FROM {keys} AS k CROSS JOIN completion AS c"
        " WHERE c.user_id = k.column1 AND c.course_id = k.column2 AND c.attempt < k.column3"
        " AND c.superseded_by IS NULL",
        [(each.user_id, each.course_id, each.attempt) for each in completions],
    )
    changes.record(tx, changes.COMPLETIONS, [(id, user_id) for id, user_id in earlier])
    await tx.executemany(
        "UPDATE completion SET superseded_by = ? WHERE user_id = ? AND course_id = ?"
        " AND attempt < ? AND superseded_by IS NULL",
        [(each.id, each.user_id, each.course_id, each.attempt) for each in completions],
    )


async def supersede_by_later(tx: Tx, new_ids: Sequence[str]) -> None:
    """Mark those new completions whose learner has completed a later attempt already."""
    await tx.execute(
        update(COMPLETION)
        .where(COMPLETION.c.id.in_(new_ids))
        .values(
            superseded_by=select(_LATER_COMPLETION.c.id)
            .where(
                _LATER_COMPLETION.c.user_id == COMPLETION.c.user_id,
                _LATER_COMPLETION.c.course_id == COMPLETION.c.course_id,
                _LATER_COMPLETION.c.attempt > COMPLETION.c.attempt,
            )
            .order_by(_LATER_COMPLETION.c.attempt)
            .limit(1)
            .scalar_subquery()
        )
    )


async def add_steps(tx: Tx, steps: Sequence[StepState]) -> None:
    """Insert steps."""
    await tx.insert(COMPLETION_STEP, steps)
    for step in steps:
        tx.count("completion_steps", step.name, step.status)


async def get(tx: Tx, id: str) -> Completion | None:
    """Return a completion."""
    return await tx.fetch_one_into(Completion, select(COMPLETION).where(COMPLETION.c.id == id))


async def find_by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Completion]:
    """Return the completions that exist, by id."""
    found: list[Completion] = []
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        part = ids[start : start + _IDS_PER_STATEMENT]
        found += await tx.fetch_into(
            Completion, select(COMPLETION).where(COMPLETION.c.id.in_(part))
        )
    return {completion.id: completion for completion in found}


async def find(tx: Tx, user_id: str, course_id: str, attempt: int | None) -> Completion | None:
    """Return the completion of an attempt, or of the latest attempt that has one."""
    statement = select(COMPLETION).where(
        COMPLETION.c.user_id == user_id, COMPLETION.c.course_id == course_id
    )
    if attempt is not None:
        statement = statement.where(COMPLETION.c.attempt == attempt)
    latest = statement.order_by(COMPLETION.c.attempt.desc()).limit(1)
    return await tx.fetch_one_into(Completion, latest)


async def list_completed_courses(tx: Tx, user_id: str) -> list[str]:
    """Return the ids of the courses that a learner has completed in some attempt."""
    rows = await tx.fetch("SELECT DISTINCT course_id FROM completion WHERE user_id = ?", (user_id,))
    return [course_id for (course_id,) in rows]


async def list_newest(
    tx: Tx, query: CompletionFilter, before: tuple[int, str] | None, count: int
) -> list[Completion]:
    """Return completions by (recorded_at, id), newest first, before such a pair."""
    at, id = COMPLETION.c.recorded_at, COMPLETION.c.id
    statement = select(COMPLETION)
    if query.user_id is not None:
        statement = statement.where(COMPLETION.c.user_id == query.user_id)
    if query.learners is not None:
        statement = statement.where(COMPLETION.c.user_id.in_(query.learners))
    if query.course_id is not None:
        statement = statement.where(COMPLETION.c.course_id == query.course_id)
    if query.recorded_since is not None:
        statement = statement.where(at >= query.recorded_since)
    if query.recorded_until is not None:
        statement = statement.where(at <= query.recorded_until)
    if before is not None:
        statement = statement.where(at <= before[0]).where(
            or_(at < before[0], and_(at == before[0], id < before[1]))
        )
    page = statement.order_by(at.desc(), id.desc()).limit(count)
    return await tx.fetch_into(Completion, page)


async def list_by_date(
    tx: Tx, query: CompletionFilter, after: tuple[int, str] | None, count: int
) -> list[Completion]:
    """Return completions by the date of completion, oldest first."""
    at, id = COMPLETION.c.completed_at, COMPLETION.c.id
    statement = select(COMPLETION)
    if query.learners is not None:
        statement = statement.where(COMPLETION.c.user_id.in_(query.learners))
    if query.course_id is not None:
        statement = statement.where(COMPLETION.c.course_id == query.course_id)
    if query.completed_from is not None:
        statement = statement.where(at >= query.completed_from)
    if query.completed_before is not None:
        statement = statement.where(at < query.completed_before)
    if after is not None:
        statement = statement.where(at >= after[0]).where(
            or_(at > after[0], and_(at == after[0], id > after[1]))
        )
    return await tx.fetch_into(Completion, statement.order_by(at, id).limit(count))


async def list_steps(tx: Tx, completion_ids: Sequence[str]) -> list[StepState]:
    """Return the steps of some completions, in the order in which they were declared."""
    steps: list[StepState] = []
    for start in range(0, len(completion_ids), _IDS_PER_STATEMENT):
        part = completion_ids[start : start + _IDS_PER_STATEMENT]
        is_wanted = COMPLETION_STEP.c.completion_id.in_(part)
        statement = select(COMPLETION_STEP).where(is_wanted).order_by(*_STEP_ORDER)
        steps += await tx.fetch_into(StepState, statement)
    return steps


async def get_step_for_update(tx: Tx, completion_id: str, name: str) -> StepState | None:
    """Return a step and lock its row until the transaction ends."""
    return await tx.fetch_one_into(
        StepState, select(COMPLETION_STEP).where(_is_step(completion_id, name)).with_for_update()
    )


async def update_step(tx: Tx, step: StepState) -> None:
    """Save a step that has changed."""
    owners = await tx.fetch("SELECT user_id FROM completion WHERE id = ?", (step.completion_id,))
    changes.record(tx, changes.STEPS, [(step_record_id(step), user_id) for (user_id,) in owners])
    is_step = _is_step(step.completion_id, step.name)
    await tx.execute(update(COMPLETION_STEP).where(is_step).values(asdict(step)))


def step_record_id(step: StepState) -> str:
    """Return the id of a step in the feed of changes."""
    return changes.record_id(step.completion_id, step.name)


async def add_note(tx: Tx, id: str, completion_id: str, text: str) -> None:
    """Insert a note."""
    await tx.execute(
        "INSERT INTO completion_note (id, completion_id, noted_at, text) VALUES (?, ?, ?, ?)",
        (id, completion_id, tx.now, text),
    )


async def list_notes(tx: Tx, completion_id: str) -> list[tuple[int, str]]:
    """Return a completion's notes as (noted_at, text), oldest first."""
    rows = await tx.fetch(
        "SELECT noted_at, text FROM completion_note WHERE completion_id = ? ORDER BY id",
        (completion_id,),
    )
    return [(noted_at, text) for noted_at, text in rows]


def _is_step(completion_id: str, name: str) -> ColumnElement[bool]:
    return and_(COMPLETION_STEP.c.completion_id == completion_id, COMPLETION_STEP.c.name == name)


def _completion_ids_of(user_id: str) -> Select[tuple[str]]:
    return select(COMPLETION.c.id).where(COMPLETION.c.user_id == user_id)


def _steps_of_learner(user_id: str) -> ColumnElement[bool]:
    return COMPLETION_STEP.c.completion_id.in_(_completion_ids_of(user_id))


PERSONAL = (
    rows_locked_first(COMPLETION_STEP.c.runs, _steps_of_learner),
    *jobs.job_rows_by_cause(_completion_ids_of),
    PersonalRows(COMPLETION_STEP, _steps_of_learner),
    PersonalRows(
        COMPLETION_NOTE,
        lambda user_id: COMPLETION_NOTE.c.completion_id.in_(_completion_ids_of(user_id)),
    ),
    rows_owned_by(COMPLETION.c.user_id),
)


async def count_recorded(tx: Tx, since: int, before: int) -> int:
    """Return how many completions were recorded from an instant to before another."""
    [(count,)] = await tx.fetch(
        "SELECT COUNT(*) FROM completion WHERE recorded_at >= ? AND recorded_at < ?",
        (since, before),
    )
    return int(count)
