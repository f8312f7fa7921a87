"""All SQL of lesson plans, their modules and lessons. Instants are microseconds UTC."""

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
    select,
)

from homeroom.db.schema import metadata
from homeroom.db.tx import Row, Tx
from homeroom.lessonplans.check import Finding
from homeroom.lessonplans.lesson import LessonBody
from homeroom.lessonplans.skeleton import Slot

TOPIC = "lesson-plans"
"""``tx.notify(TOPIC, plan_id)``: something of a plan changed."""
State = Literal["pending", "queued", "complete", "failed", "cancelled"]
"""Of a module. ``queued`` lasts until its job has ended, whether that runs or waits."""

PLAN = Table(
    "lesson_plan",
    metadata,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("course_id", Text),
    Column("curriculum", Text, nullable=False),  # JSON, every default written out
    Column("input_hash", Text, nullable=False),
    Column("changes", Integer, nullable=False),  # written first by whoever changes the plan
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Index(None, "created_at", "id"),
)
MODULE = Table(
    "lesson_plan_module",
    metadata,
    Column("plan_id", Text, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("round", Integer, nullable=False),  # its lessons of an earlier round are to be written
    Column("queued", Integer, nullable=False),  # how often a job was added for it
    Column("job_id", Text),
    Column("error", Text),
    Column("finished_at", BigInteger),
    PrimaryKeyConstraint("plan_id", "idx"),
)
LESSON = Table(
    "lesson_plan_lesson",
    metadata,
    Column("plan_id", Text, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("id", Text, nullable=False),
    Column("module_idx", Integer, nullable=False),
    Column("minutes", Integer, nullable=False),
    Column("slot", Text, nullable=False),  # JSON, as the skeleton of its day made it
    Column("round", Integer, nullable=False),  # in which it was written last; 0: never
    Column("title", Text, nullable=False),  # the working title until it is written
    Column("body", Text),
    Column("gaps", Text),
    Column("generator", Text),
    Column("provenance", Text),
    Column("took_ms", Integer),
    Column("written_at", BigInteger),
    Column("revision", Integer, nullable=False),
    Column("edited_at", BigInteger),
    Column("edited_by", Text),
    PrimaryKeyConstraint("plan_id", "idx"),
    UniqueConstraint("plan_id", "id"),
    Index(None, "generator", "written_at"),
)


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan without its lessons. ``curriculum`` is JSON text."""

    id: str
    title: str
    course_id: str | None
    curriculum: str
    input_hash: str
    changes: int
    created_at: int
    created_by: str


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """How far a module is."""

    plan_id: str
    idx: int
    state: State
    round: int
    queued: int
    job_id: str | None
    error: str | None
    finished_at: int | None


@dataclass(frozen=True, slots=True)
class LessonRow:
    """A lesson; ``body`` is None until it is written."""

    plan_id: str
    idx: int
    id: str
    module_idx: int
    minutes: int
    slot: Slot
    round: int
    title: str
    body: LessonBody | None
    gaps: tuple[Finding, ...]
    generator: str | None
    provenance: dict[str, object]
    took_ms: int | None
    written_at: int | None
    revision: int
    edited_at: int | None
    edited_by: str | None


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _lesson(row: Row) -> LessonRow:
    values = list(row)
    slot, body, gaps, provenance = row[5], row[8], row[9], row[11]
    values[5] = msgspec.json.decode(slot, type=Slot)
    values[8] = None if body is None else LessonBody.model_validate_json(body)
    values[9] = () if gaps is None else msgspec.json.decode(gaps, type=tuple[Finding, ...])
    values[11] = {} if provenance is None else msgspec.json.decode(provenance)
    return LessonRow(*values)


async def add_plan(tx: Tx, row: PlanRow, modules: int, slots: Sequence[Slot]) -> None:
    """Insert a plan with its modules and lessons, nothing of which is written yet."""
    await tx.execute(
        "INSERT INTO lesson_plan (id, title, course_id, curriculum, input_hash, changes,"
        " created_at, created_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.id,
            row.title,
            row.course_id,
            row.curriculum,
            row.input_hash,
            row.changes,
            row.created_at,
            row.created_by,
        ),
    )
    await tx.executemany(
        "INSERT INTO lesson_plan_module (plan_id, idx, state, round, queued)"
        " VALUES (?, ?, ?, ?, ?)",
        [(row.id, index, "pending", 1, 0) for index in range(modules)],
    )
    await tx.executemany(
        "INSERT INTO lesson_plan_lesson (plan_id, idx, id, module_idx, minutes, slot, title,"
        " round, revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                row.id,
                each.index,
                each.id,
                each.module_index,
                each.minutes,
                _json(each),
                each.title,
                0,
                0,
            )
            for each in slots
        ],
    )


async def lock(tx: Tx, plan_id: str) -> bool:
    """Make whoever else changes this plan wait; say whether it exists."""
    changed = await tx.execute(
        "UPDATE lesson_plan SET changes = changes + 1 WHERE id = ?", (plan_id,)
    )
    return changed == 1


async def plan(tx: Tx, plan_id: str) -> PlanRow | None:
    """Return a plan."""
    row = await tx.fetch_one(select(PLAN).where(PLAN.c.id == plan_id))
    return None if row is None else PlanRow(*row)


async def newest(tx: Tx, before: tuple[int, str] | None, count: int) -> list[PlanRow]:
    """Return plans by (created_at, id), newest first, before such a pair."""
    at, id = PLAN.c.created_at, PLAN.c.id
    statement = select(PLAN)
    if before is not None:
        statement = statement.where(at <= before[0]).where(
            (at < before[0]) | ((at == before[0]) & (id < before[1]))
        )
    rows = await tx.fetch(statement.order_by(at.desc(), id.desc()).limit(count))
    return [PlanRow(*row) for row in rows]


async def modules(tx: Tx, plan_id: str) -> list[ModuleRow]:
    """Return a plan's modules in order."""
    rows = await tx.fetch(select(MODULE).where(MODULE.c.plan_id == plan_id).order_by(MODULE.c.idx))
    return [ModuleRow(*row) for row in rows]


async def module_states(tx: Tx, plan_ids: Sequence[str]) -> list[Row]:
    """Return (plan id, state) of every module of these plans."""
    return await tx.fetch(
        select(MODULE.c.plan_id, MODULE.c.state).where(MODULE.c.plan_id.in_(list(plan_ids)))
    )


async def module(tx: Tx, plan_id: str, index: int) -> ModuleRow | None:
    """Return one module."""
    row = await tx.fetch_one(
        select(MODULE).where(MODULE.c.plan_id == plan_id, MODULE.c.idx == index)
    )
    return None if row is None else ModuleRow(*row)


async def set_queued(tx: Tx, plan_id: str, index: int, job_id: str) -> None:
    """Note the job that writes a module from now on."""
    await tx.execute(
        "UPDATE lesson_plan_module SET state = 'queued', job_id = ?, queued = queued + 1,"
        " error = NULL, finished_at = NULL WHERE plan_id = ? AND idx = ?",
        (job_id, plan_id, index),
    )


async def set_module(tx: Tx, job_id: str, plan_id: str, state: State, error: str | None) -> None:
    """Set how a module stands, unless another job writes it by now."""
    finished = None if state == "queued" else tx.now
    await tx.execute(
        "UPDATE lesson_plan_module SET state = ?, error = ?, finished_at = ?"
        " WHERE plan_id = ? AND job_id = ?",
        (state, error, finished, plan_id, job_id),
    )


async def new_round(tx: Tx, plan_id: str, index: int) -> None:
    """Let all lessons of a module be due again; those that were written stay until then."""
    await tx.execute(
        "UPDATE lesson_plan_module SET round = round + 1, state = 'pending', error = NULL"
        " WHERE plan_id = ? AND idx = ?",
        (plan_id, index),
    )


async def keep_lessons(
    tx: Tx, plan_id: str, index: int, *, edited_only: bool, but: str | None = None
) -> int:
    """Take lessons of a module, but one, into its new round as they are; return how many."""
    return await tx.execute(
        "UPDATE lesson_plan_lesson SET round = (SELECT m.round FROM lesson_plan_module AS m"
        " WHERE m.plan_id = lesson_plan_lesson.plan_id AND m.idx = lesson_plan_lesson.module_idx)"
        " WHERE plan_id = ? AND module_idx = ? AND round > 0 AND id <> ?"
        + (" AND edited_at IS NOT NULL" if edited_only else ""),
        (plan_id, index, but or ""),
    )


async def lessons(tx: Tx, plan_id: str) -> list[LessonRow]:
    """Return a plan's lessons in order."""
    rows = await tx.fetch(select(LESSON).where(LESSON.c.plan_id == plan_id).order_by(LESSON.c.idx))
    return [_lesson(row) for row in rows]


async def lesson(tx: Tx, plan_id: str, lesson_id: str) -> LessonRow | None:
    """Return one lesson."""
    row = await tx.fetch_one(
        select(LESSON).where(LESSON.c.plan_id == plan_id, LESSON.c.id == lesson_id)
    )
    return None if row is None else _lesson(row)


async def due(tx: Tx, plan_id: str, index: int, in_round: int) -> LessonRow | None:
    """Return the first lesson of a module that was not written in its round yet."""
    row = await tx.fetch_one(
        select(LESSON)
        .where(LESSON.c.plan_id == plan_id, LESSON.c.module_idx == index, LESSON.c.round < in_round)
        .order_by(LESSON.c.idx)
        .limit(1)
    )
    return None if row is None else _lesson(row)


async def titles(tx: Tx, plan_id: str, but: int) -> list[str]:
    """Return the titles of a plan's lessons but one; those that are not written keep theirs too.

    The rules may have to stand in for any of them, under its working title.
    """
    rows = await tx.fetch(
        "SELECT title FROM lesson_plan_lesson WHERE plan_id = ? AND idx <> ? ORDER BY idx",
        (plan_id, but),
    )
    return [title for (title,) in rows]


@dataclass(frozen=True, slots=True)
class Pace:
    """How far one lesson is, without its text."""

    module_idx: int
    minutes: int
    round: int
    took_ms: int | None
    has_gaps: bool


async def paces(tx: Tx, plan_id: str) -> list[Pace]:
    """Return how far every lesson of a plan is, in order."""
    rows = await tx.fetch(
        "SELECT module_idx, minutes, round, took_ms, CASE WHEN gaps IS NULL THEN 0 ELSE 1 END"
        " FROM lesson_plan_lesson WHERE plan_id = ? ORDER BY idx",
        (plan_id,),
    )
    return [Pace(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows]


async def save_lesson(
    tx: Tx,
    lesson: LessonRow,
    in_round: int,
    body: LessonBody,
    *,
    gaps: Sequence[Finding],
    generator: str,
    provenance: dict[str, object],
    took_ms: int,
) -> bool:
    """Store a lesson as written in a round; False if it was meanwhile, or edited by somebody."""
    changed = await tx.execute(
        "UPDATE lesson_plan_lesson SET title = ?, body = ?, gaps = ?, generator = ?,"
        " provenance = ?, took_ms = ?, written_at = ?, round = ?, revision = revision + 1,"
        " edited_at = NULL, edited_by = NULL"
        " WHERE plan_id = ? AND idx = ? AND round < ? AND revision = ?",
        (
            body.title,
            body.model_dump_json(by_alias=True),
            _json(gaps) if gaps else None,
            generator,
            _json(provenance),
            took_ms,
            tx.now,
            in_round,
            lesson.plan_id,
            lesson.idx,
            in_round,
            lesson.revision,
        ),
    )
    return changed == 1


async def save_edit(tx: Tx, lesson: LessonRow, body: LessonBody, actor: str) -> bool:
    """Store a person's edit and take the gaps as mended; False if the lesson changed meanwhile.

    The lesson counts as written in its module's round: what runs now leaves it alone.
    """
    changed = await tx.execute(
        "UPDATE lesson_plan_lesson SET title = ?, body = ?, gaps = NULL, edited_at = ?,"
        " edited_by = ?, revision = revision + 1,"
        " round = (SELECT m.round FROM lesson_plan_module AS m WHERE m.plan_id ="
        " lesson_plan_lesson.plan_id AND m.idx = lesson_plan_lesson.module_idx)"
        " WHERE plan_id = ? AND idx = ? AND revision = ?",
        (
            body.title,
            body.model_dump_json(by_alias=True),
            tx.now,
            actor,
            lesson.plan_id,
            lesson.idx,
            lesson.revision,
        ),
    )
    return changed == 1


async def mean_ms(tx: Tx, generator: str) -> float | None:
    """Return how long the last fifty lessons of a generator took, on average."""
    row = await tx.fetch_one(
        "SELECT AVG(took_ms) FROM (SELECT took_ms FROM lesson_plan_lesson"
        " WHERE generator = ? AND written_at IS NOT NULL ORDER BY written_at DESC LIMIT 50) AS l",
        (generator,),
    )
    return None if row is None or row[0] is None else float(row[0])
