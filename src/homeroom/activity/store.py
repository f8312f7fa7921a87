"""Tables of activity, and the SQL of programmes, offerings, logs and exemptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Select,
    Table,
    Text,
    UniqueConstraint,
    delete,
    select,
)

from homeroom.activity.obligation_rules import Exemption, Offering, Programme
from homeroom.db.personal_data import json_contains_id
from homeroom.db.tables import metadata
from homeroom.db.tx import Tx

PROGRAMME = Table(
    "programme",
    metadata,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("grace_minutes", Integer, nullable=False),
    Column("closed_on", Text),  # a date; null: not closed
    Column("managers", Text, nullable=False),  # JSON list of user ids
    Column("log_url", Text),
    Column("target_week", Text, nullable=False),
    Column("last_day_to_join", Integer, nullable=False),
    Column("late_is_missed", Integer, nullable=False),
    Column("copy_facilitator", Integer, nullable=False),
    Column("all_clear", Integer, nullable=False),
    Column("per_user_time", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
OFFERING = Table(
    "offering",
    metadata,
    Column("id", Text, primary_key=True),
    Column("programme_id", Text, nullable=False, index=True),
    Column("title", Text, nullable=False),
    Column("facilitator_id", Text, nullable=False, index=True),
    Column("starts_on", Text, nullable=False),  # dates, both within
    Column("ends_on", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
ACTIVITY_LOG = Table(
    "activity_log",
    metadata,
    Column("id", Text, primary_key=True),
    Column("offering_id", Text, nullable=False),
    Column("week_key", Text, nullable=False),
    Column("facilitator_id", Text, nullable=False),
    Column("programme_id", Text, nullable=False),
    Column("status", Text, nullable=False),  # draft or submitted
    Column("content", Text, nullable=False),  # JSON
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("submitted_at", BigInteger),  # by this server's clock, the first time
    UniqueConstraint("offering_id", "week_key"),
    Index(None, "facilitator_id", "id"),
    Index(None, "programme_id", "id"),
)
OBLIGATION = Table(
    "log_obligation",
    metadata,
    Column("offering_id", Text, primary_key=True),
    Column("week_key", Text, primary_key=True),
    Column("facilitator_id", Text, nullable=False),
    Column("programme_id", Text, nullable=False),
    Column("opens_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),  # frozen when the week opened
    Column("state", Text, nullable=False),  # open, submitted, late, missed, exempt
    Column("exempt_reason", Text),
    Column("log_id", Text),
    Column("satisfied_at", BigInteger),
    Index(None, "programme_id", "week_key"),
)
EXEMPTION = Table(
    "exemption",
    metadata,
    Column("id", Text, primary_key=True),
    Column("programme_id", Text, nullable=False, index=True),
    Column("user_id", Text),  # null: all facilitators
    Column("offering_id", Text),  # null: all offerings
    Column("starts_on", Text, nullable=False),
    Column("ends_on", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("note", Text),
    Column("created_by", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
COMPLIANCE_WARNING = Table(
    "compliance_warning",
    metadata,
    Column("programme_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("week_key", Text, nullable=False),  # the report that it was in
    Column("missed", Text, nullable=False),  # JSON list of weeks
    Column("warned_at", BigInteger, nullable=False),
    Column("resolved_at", BigInteger),
)
ACTIVITY_RUN = Table(
    "activity_run",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("slot", Text, primary_key=True),
    Column("slot_at", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # fanning_out or done
    Column("late", Integer, nullable=False),
    Column("sent", Integer, nullable=False),
    Column("repeated", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
)


@dataclass(frozen=True, slots=True)
class ActivityLog:
    """A facilitator's log of a week. Instants are microseconds UTC."""

    id: str
    offering_id: str
    week_key: str
    facilitator_id: str
    programme_id: str
    status: str
    content: Mapping[str, Any]
    created_at: int
    updated_at: int
    submitted_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExemptionRecord(Exemption):
    """An exemption with its author."""

    programme_id: str
    note: str | None
    created_by: str
    created_at: int


async def put_programme(tx: Tx, programme: Programme) -> None:
    """Insert or replace a programme."""
    await tx.insert(
        PROGRAMME,
        [programme],
        on_conflict="update",
        keep=("created_at",),
        created_at=tx.now,
        updated_at=tx.now,
    )


async def get_programme(tx: Tx, id: str) -> Programme | None:
    """Return a programme."""
    return await tx.fetch_one_into(Programme, select(PROGRAMME).where(PROGRAMME.c.id == id))


async def list_programmes(
    tx: Tx, after: str | None = None, count: int = 1_000, manager_id: str | None = None
) -> list[Programme]:
    """Return programmes by id, after one: all, or those of a manager."""
    statement = select(PROGRAMME).order_by(PROGRAMME.c.id).limit(count)
    if manager_id is not None:
        statement = statement.where(json_contains_id(PROGRAMME.c.managers, manager_id))
    if after is not None:
        statement = statement.where(PROGRAMME.c.id > after)
    return await tx.fetch_into(Programme, statement)


async def put_offering(tx: Tx, offering: Offering) -> None:
    """Insert or replace an offering; it stays in its first programme."""
    await tx.insert(
        OFFERING,
        [offering],
        on_conflict="update",
        keep=("created_at", "programme_id"),
        created_at=tx.now,
        updated_at=tx.now,
    )


async def get_offering(tx: Tx, id: str) -> Offering | None:
    """Return an offering."""
    return await tx.fetch_one_into(Offering, select(OFFERING).where(OFFERING.c.id == id))


async def offering_creation_times(tx: Tx, programme_id: str) -> dict[str, int]:
    """Return by offering the instant at which Homeroom got it."""
    rows = await tx.fetch(
        select(OFFERING.c.id, OFFERING.c.created_at).where(OFFERING.c.programme_id == programme_id)
    )
    return dict(rows)


def select_managed_programmes(manager_id: str) -> Select[tuple[str]]:
    """Select the ids of the programmes that have a person among their managers."""
    return select(PROGRAMME.c.id).where(json_contains_id(PROGRAMME.c.managers, manager_id))


def select_facilitators(manager_id: str) -> Select[tuple[str]]:
    """Select the facilitators of a manager's programmes; one comes once an offering."""
    managed = select_managed_programmes(manager_id)
    return select(OFFERING.c.facilitator_id).where(OFFERING.c.programme_id.in_(managed))


async def list_offerings(tx: Tx, programme_id: str) -> list[Offering]:
    """Return the offerings of a programme by id."""
    return await tx.fetch_into(
        Offering,
        select(OFFERING).where(OFFERING.c.programme_id == programme_id).order_by(OFFERING.c.id),
    )


async def add_log(tx: Tx, log: ActivityLog) -> bool:
    """Insert a log; False if its week has one."""
    return await tx.insert(ACTIVITY_LOG, [log], on_conflict="ignore") == 1


async def update_log(
    tx: Tx, id: str, status: str, content: Mapping[str, Any], submitted_at: int | None
) -> None:
    """Replace a log's content; the instant of its first submission stays."""
    await tx.execute(
        "UPDATE activity_log SET status = ?, content = ?, updated_at = ?,"
        " submitted_at = COALESCE(submitted_at, ?) WHERE id = ?",
        (status, msgspec.json.encode(content).decode(), tx.now, submitted_at, id),
    )


async def get_log(tx: Tx, id: str) -> ActivityLog | None:
    """Return a log."""
    return await tx.fetch_one_into(ActivityLog, select(ACTIVITY_LOG).where(ACTIVITY_LOG.c.id == id))


async def get_week_log(tx: Tx, offering_id: str, week_key: str) -> ActivityLog | None:
    """Return the log of an offering and a week."""
    return await tx.fetch_one_into(
        ActivityLog,
        select(ACTIVITY_LOG).where(
            ACTIVITY_LOG.c.offering_id == offering_id, ACTIVITY_LOG.c.week_key == week_key
        ),
    )


async def delete_log(tx: Tx, id: str) -> None:
    """Delete a log."""
    await tx.execute(delete(ACTIVITY_LOG).where(ACTIVITY_LOG.c.id == id))


async def list_logs(
    tx: Tx,
    *,
    facilitator_id: str | None,
    programme_ids: Sequence[str] | None,
    offering_id: str | None,
    week_key: str | None,
    before_id: str | None,
    count: int,
) -> list[ActivityLog]:
    """Return logs, newest first, before an id; ``programme_ids`` None is all of them."""
    statement = select(ACTIVITY_LOG)
    for column, value in (
        (ACTIVITY_LOG.c.facilitator_id, facilitator_id),
        (ACTIVITY_LOG.c.offering_id, offering_id),
        (ACTIVITY_LOG.c.week_key, week_key),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if programme_ids is not None:
        statement = statement.where(ACTIVITY_LOG.c.programme_id.in_(programme_ids))
    if before_id is not None:
        statement = statement.where(ACTIVITY_LOG.c.id < before_id)
    return await tx.fetch_into(
        ActivityLog, statement.order_by(ACTIVITY_LOG.c.id.desc()).limit(count)
    )


async def add_exemption(tx: Tx, exemption: ExemptionRecord) -> None:
    """Insert an exemption."""
    await tx.insert(EXEMPTION, [exemption])


async def list_exemptions(tx: Tx, programme_id: str) -> list[ExemptionRecord]:
    """Return the exemptions of a programme, the newest first."""
    return await tx.fetch_into(
        ExemptionRecord,
        select(EXEMPTION)
        .where(EXEMPTION.c.programme_id == programme_id)
        .order_by(EXEMPTION.c.starts_on.desc(), EXEMPTION.c.id.desc()),
    )


async def delete_exemption(tx: Tx, programme_id: str, id: str) -> bool:
    """Delete an exemption; return whether there was one."""
    changed = await tx.execute(
        delete(EXEMPTION).where(EXEMPTION.c.programme_id == programme_id, EXEMPTION.c.id == id)
    )
    return changed == 1
