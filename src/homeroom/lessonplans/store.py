"""SQL of lesson plans, their modules and lessons; instants are microseconds UTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    case,
    delete,
    func,
    select,
    text,
)

from homeroom.db.personal_data import rows_naming
from homeroom.db.tables import metadata
from homeroom.db.tx import Tx
from homeroom.lessonplans.lesson import LessonBody, LessonFinding
from homeroom.lessonplans.lesson_allocation import LessonSlot
from homeroom.lessonplans.lesson_parts import PARTS, LessonRequest
from homeroom.lessonplans.open_places import find_open_places
from homeroom.lessonplans.plan import LessonProgress

TOPIC = "lesson-plans"  # of ``tx.notify(TOPIC, plan_id)``: a plan changed
ModuleState = Literal["pending", "queued", "complete", "failed", "cancelled"]
"""State of a module; ``queued`` lasts until its job has ended, whether it waits or runs."""

LESSON_PLAN = Table(
    "lesson_plan",
    metadata,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("course_id", Text),
    Column("curriculum", Text, nullable=False),  # JSON, every default written out
    Column("input_hash", Text, nullable=False),
    Column("changes", Integer, nullable=False),  # incremented first by each change: a lock
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("schedule_revision", Integer, nullable=False, server_default=text("0")),
    Column("scheduled_at", BigInteger),
    Index(None, "created_at", "id"),
)
LESSON_PLAN_MODULE = Table(
    "lesson_plan_module",
    metadata,
    Column("plan_id", Text, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("round", Integer, nullable=False),  # lessons of an earlier round are outstanding
    Column("queued", Integer, nullable=False),  # number of jobs enqueued so far
    Column("job_id", Text),
    Column("error", Text),
    Column("finished_at", BigInteger),
    PrimaryKeyConstraint("plan_id", "idx"),
)
LESSON_PLAN_LESSON = Table(
    "lesson_plan_lesson",
    metadata,
    Column("plan_id", Text, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("id", Text, nullable=False),
    Column("module_idx", Integer, nullable=False),
    Column("minutes", Integer, nullable=False),
    Column("slot", Text, nullable=False),  # JSON of the LessonSlot when the plan was created
    Column("round", Integer, nullable=False),  # in which it was generated last; 0: never
    Column("title", Text, nullable=False),  # the working title until it is generated
    Column("body", Text),
    Column("gaps", Text),
    Column("generator", Text),
    Column("provenance", Text),
    Column("took_ms", Integer),
    Column("written_at", BigInteger),
    Column("revision", Integer, nullable=False),
    Column("edited_at", BigInteger),
    Column("edited_by", Text),
    Column("open_places", Integer),  # of its body; null: written by a release before 0062
    Column("edited_parts", Text),  # JSON; null beside edited_at: edited before 0067, any part
    Column("requested", Text),  # JSON of the LessonRequest of its round; null: the whole lesson
    PrimaryKeyConstraint("plan_id", "idx"),
    UniqueConstraint("plan_id", "id"),
    Index(None, "generator", "written_at"),
)
PERSONAL = (rows_naming(LESSON_PLAN.c.created_by), rows_naming(LESSON_PLAN_LESSON.c.edited_by))
"""The columns that hold a person's id, for export and erasure."""


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan without its lessons; ``curriculum`` is JSON text."""

    id: str
    title: str
    course_id: str | None
    curriculum: str
    input_hash: str
    changes: int
    created_at: int
    created_by: str
    schedule_revision: int = 0
    scheduled_at: int | None = None


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """The generation state of a module."""

    plan_id: str
    idx: int
    state: ModuleState
    round: int
    queued: int
    job_id: str | None = None
    error: str | None = None
    finished_at: int | None = None


@dataclass(frozen=True, slots=True)
class _NewLesson:
    """The columns of a lesson that is not generated yet."""

    plan_id: str
    idx: int
    id: str
    module_idx: int
    minutes: int
    slot: LessonSlot
    title: str
    round: int
    revision: int


@dataclass(frozen=True, slots=True)
class LessonRow(_NewLesson):
    """A lesson; ``body`` is None until it is generated."""

    body_json: str | None
    gaps: tuple[LessonFinding, ...]
    generator: str | None
    provenance: dict[str, object]
    took_ms: int | None
    written_at: int | None
    edited_at: int | None
    edited_by: str | None
    edited_parts: tuple[str, ...]
    requested: LessonRequest | None

    @property
    def body(self) -> LessonBody | None:
        """Return the parsed content."""
        return None if self.body_json is None else LessonBody.model_validate_json(self.body_json)


_SPECIAL_COLUMNS = {"body", "gaps", "provenance", "open_places", "edited_parts"}
_ALL_PARTS = msgspec.json.encode(PARTS).decode()
_SELECT_LESSONS = select(
    *(column for column in LESSON_PLAN_LESSON.c if column.name not in _SPECIAL_COLUMNS),
    LESSON_PLAN_LESSON.c.body.label("body_json"),
    func.coalesce(LESSON_PLAN_LESSON.c.gaps, "[]").label("gaps"),
    func.coalesce(LESSON_PLAN_LESSON.c.provenance, "{}").label("provenance"),
    case(
        (LESSON_PLAN_LESSON.c.edited_at.is_(None), "[]"),
        else_=func.coalesce(LESSON_PLAN_LESSON.c.edited_parts, _ALL_PARTS),
    ).label("edited_parts"),
)


async def add_plan(tx: Tx, row: PlanRow, modules: int, slots: Sequence[LessonSlot]) -> None:
    """Insert a plan with its modules and lessons, none of them generated."""
    await tx.insert(LESSON_PLAN, [row])
    await tx.insert(
        LESSON_PLAN_MODULE,
        [
            ModuleRow(plan_id=row.id, idx=index, state="pending", round=1, queued=0)
            for index in range(modules)
        ],
    )
    await tx.insert(
        LESSON_PLAN_LESSON,
        [
            _NewLesson(
                plan_id=row.id,
                idx=slot.index,
                id=slot.id,
                module_idx=slot.module_index,
                minutes=slot.minutes,
                slot=slot,
                title=slot.title,
                round=0,
                revision=0,
            )
            for slot in slots
        ],
    )


async def lock_plan(tx: Tx, plan_id: str) -> bool:
    """Lock a plan until the end of the transaction; return whether it exists."""
    changed = await tx.execute(
        "UPDATE lesson_plan SET changes = changes + 1 WHERE id = ?", (plan_id,)
    )
    return changed == 1


async def delete_plan(tx: Tx, plan_id: str) -> None:
    """Delete a plan with its lessons; its model calls stay, as a record of costs."""
    await tx.execute(delete(LESSON_PLAN_LESSON).where(LESSON_PLAN_LESSON.c.plan_id == plan_id))
    await tx.execute(delete(LESSON_PLAN_MODULE).where(LESSON_PLAN_MODULE.c.plan_id == plan_id))
    await tx.execute(delete(LESSON_PLAN).where(LESSON_PLAN.c.id == plan_id))


async def find_plan(tx: Tx, plan_id: str) -> PlanRow | None:
    """Return a plan."""
    return await tx.fetch_one_into(PlanRow, select(LESSON_PLAN).where(LESSON_PLAN.c.id == plan_id))


async def list_newest(tx: Tx, before: tuple[int, str] | None, count: int) -> list[PlanRow]:
    """Return plans, newest first, before a pair of ``created_at`` and ``id``."""
    at, id = LESSON_PLAN.c.created_at, LESSON_PLAN.c.id
    statement = select(LESSON_PLAN)
    if before is not None:
        statement = statement.where(at <= before[0]).where(
            (at < before[0]) | ((at == before[0]) & (id < before[1]))
        )
    return await tx.fetch_into(PlanRow, statement.order_by(at.desc(), id.desc()).limit(count))


async def list_modules(tx: Tx, plan_id: str) -> list[ModuleRow]:
    """Return a plan's modules in order."""
    return await tx.fetch_into(
        ModuleRow,
        select(LESSON_PLAN_MODULE)
        .where(LESSON_PLAN_MODULE.c.plan_id == plan_id)
        .order_by(LESSON_PLAN_MODULE.c.idx),
    )


async def list_module_states(tx: Tx, plan_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of plan id and state for every module of some plans."""
    rows = await tx.fetch(
        select(LESSON_PLAN_MODULE.c.plan_id, LESSON_PLAN_MODULE.c.state).where(
            LESSON_PLAN_MODULE.c.plan_id.in_(list(plan_ids))
        )
    )
    return [(plan_id, state) for plan_id, state in rows]


async def find_module(tx: Tx, plan_id: str, index: int) -> ModuleRow | None:
    """Return one module."""
    return await tx.fetch_one_into(
        ModuleRow,
        select(LESSON_PLAN_MODULE).where(
            LESSON_PLAN_MODULE.c.plan_id == plan_id, LESSON_PLAN_MODULE.c.idx == index
        ),
    )


async def mark_module_queued(tx: Tx, plan_id: str, index: int, job_id: str) -> None:
    """Record the job that generates a module from now on."""
    await tx.execute(
        "UPDATE lesson_plan_module SET state = 'queued', job_id = ?, queued = queued + 1,"
        " error = NULL, finished_at = NULL WHERE plan_id = ? AND idx = ?",
        (job_id, plan_id, index),
    )


async def set_module_state(
    tx: Tx, job_id: str, plan_id: str, state: ModuleState, error: str | None
) -> None:
    """Set a module's state, unless another job has replaced this one."""
    finished = None if state == "queued" else tx.now
    await tx.execute(
        "UPDATE lesson_plan_module SET state = ?, error = ?, finished_at = ?"
        " WHERE plan_id = ? AND job_id = ?",
        (state, error, finished, plan_id, job_id),
    )


async def start_module_round(tx: Tx, plan_id: str, index: int) -> None:
    """Start a new round of a module: all its lessons become outstanding, as a whole.

    Generated lessons stay readable until the new round replaces them.
    """
    await tx.execute(
        "UPDATE lesson_plan_lesson SET requested = NULL WHERE plan_id = ? AND module_idx = ?",
        (plan_id, index),
    )
    await tx.execute(
        "UPDATE lesson_plan_module SET round = round + 1, state = 'pending', error = NULL"
        " WHERE plan_id = ? AND idx = ?",
        (plan_id, index),
    )


async def carry_lessons_over(
    tx: Tx, plan_id: str, index: int, *, edited_only: bool, excluded_id: str | None = None
) -> int:
    """Carry a module's lessons into its new round unchanged; return how many."""
    return await tx.execute(
        "UPDATE lesson_plan_lesson SET round = (SELECT m.round FROM lesson_plan_module AS m"
        " WHERE m.plan_id = lesson_plan_lesson.plan_id AND m.idx = lesson_plan_lesson.module_idx)"
        " WHERE plan_id = ? AND module_idx = ? AND round > 0 AND id <> ?"
        + (" AND edited_at IS NOT NULL" if edited_only else ""),
        (plan_id, index, excluded_id or ""),
    )


async def list_lessons(tx: Tx, plan_id: str) -> list[LessonRow]:
    """Return a plan's lessons in order."""
    return await tx.fetch_into(
        LessonRow,
        _SELECT_LESSONS.where(LESSON_PLAN_LESSON.c.plan_id == plan_id).order_by(
            LESSON_PLAN_LESSON.c.idx
        ),
    )


async def find_lesson(tx: Tx, plan_id: str, lesson_id: str) -> LessonRow | None:
    """Return one lesson."""
    return await tx.fetch_one_into(
        LessonRow,
        _SELECT_LESSONS.where(
            LESSON_PLAN_LESSON.c.plan_id == plan_id, LESSON_PLAN_LESSON.c.id == lesson_id
        ),
    )


async def next_outstanding_lesson(
    tx: Tx, plan_id: str, index: int, current_round: int
) -> LessonRow | None:
    """Return a module's first lesson that is not generated in the current round."""
    return await tx.fetch_one_into(
        LessonRow,
        _SELECT_LESSONS.where(
            LESSON_PLAN_LESSON.c.plan_id == plan_id,
            LESSON_PLAN_LESSON.c.module_idx == index,
            LESSON_PLAN_LESSON.c.round < current_round,
        )
        .order_by(LESSON_PLAN_LESSON.c.idx)
        .limit(1),
    )


async def list_other_titles(tx: Tx, plan_id: str, excluded_index: int) -> list[str]:
    """Return the titles of a plan's other lessons, working titles included.

    A working title stays reserved: a rule-based lesson may later take the place of a model's
    lesson under it.
    """
    rows = await tx.fetch(
        "SELECT title FROM lesson_plan_lesson WHERE plan_id = ? AND idx <> ? ORDER BY idx",
        (plan_id, excluded_index),
    )
    return [title for (title,) in rows]


async def list_lesson_progress(tx: Tx, plan_id: str) -> list[LessonProgress]:
    """Return the progress of every lesson of a plan, in order."""
    return await tx.fetch_into(
        LessonProgress,
        "SELECT module_idx, minutes, round, took_ms,"
        " CASE WHEN gaps IS NULL THEN 0 ELSE 1 END AS has_gaps, open_places"
        " FROM lesson_plan_lesson WHERE plan_id = ? ORDER BY idx",
        (plan_id,),
    )


async def count_uncounted_open_places(tx: Tx, plan_id: str) -> int:
    """Count the open places of the lessons that an earlier release wrote."""
    rows = await tx.fetch(
        "SELECT body FROM lesson_plan_lesson"
        " WHERE plan_id = ? AND open_places IS NULL AND body IS NOT NULL",
        (plan_id,),
    )
    return sum(len(find_open_places(LessonBody.model_validate_json(body))) for (body,) in rows)


async def mean_lesson_ms(tx: Tx, generator: str) -> float | None:
    """Return the mean duration of a generator's last fifty lessons; None without any."""
    [(mean_ms,)] = await tx.fetch(
        "SELECT AVG(took_ms) FROM (SELECT took_ms FROM lesson_plan_lesson"
        " WHERE generator = ? AND written_at IS NOT NULL ORDER BY written_at DESC LIMIT 50) AS l",
        (generator,),
    )
    return None if mean_ms is None else float(mean_ms)
