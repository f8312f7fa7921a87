"""All SQL of programmes, offerings, logs and exemptions. Instants are microseconds UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import delete, select

from homeroom.activity.owed import Exemption, Offering
from homeroom.activity.programme import Programme
from homeroom.activity.table import EXEMPTION, LOG, OFFERING, PROGRAMME
from homeroom.db.tx import Row, Tx


@dataclass(frozen=True, slots=True)
class Log:
    """What a facilitator wrote of a week."""

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


@dataclass(frozen=True, slots=True)
class KeptExemption:
    """An exemption with who made it."""

    rule: Exemption
    programme_id: str
    note: str | None
    created_by: str
    created_at: int


def _programme(row: Row) -> Programme:
    return Programme(
        id=row[0],
        title=row[1],
        time_zone=row[2],
        grace_minutes=row[3],
        closed_on=None if row[4] is None else date.fromisoformat(row[4]),
        managers=tuple(msgspec.json.decode(row[5])),
        log_url=row[6],
        target_week=row[7],
        last_day_to_join=row[8],
        late_is_missed=bool(row[9]),
        copy_facilitator=bool(row[10]),
        all_clear=bool(row[11]),
        per_user_time=bool(row[12]),
    )


def _offering(row: Row) -> Offering:
    starts, ends = date.fromisoformat(row[4]), date.fromisoformat(row[5])
    return Offering(row[0], row[1], row[2], row[3], starts, ends)


def _log(row: Row) -> Log:
    return Log(
        id=row[0],
        offering_id=row[1],
        week_key=row[2],
        facilitator_id=row[3],
        programme_id=row[4],
        status=row[5],
        content=msgspec.json.decode(row[6]),
        created_at=row[7],
        updated_at=row[8],
        submitted_at=row[9],
    )


def _exemption(row: Row) -> KeptExemption:
    rule = Exemption(
        id=row[0],
        user_id=row[2],
        offering_id=row[3],
        starts_on=date.fromisoformat(row[4]),
        ends_on=date.fromisoformat(row[5]),
        reason=row[6],
    )
    return KeptExemption(rule, row[1], row[7], row[8], row[9])


async def put_programme(tx: Tx, programme: Programme) -> None:
    """Insert or replace a programme."""
    await tx.execute(
        "INSERT INTO programme (id, title, time_zone, grace_minutes, closed_on, managers, log_url,"
        " target_week, last_day_to_join, late_is_missed, copy_facilitator, all_clear,"
        " per_user_time, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET title = excluded.title, time_zone = excluded.time_zone,"
        " grace_minutes = excluded.grace_minutes, closed_on = excluded.closed_on,"
        " managers = excluded.managers, log_url = excluded.log_url,"
        " target_week = excluded.target_week, last_day_to_join = excluded.last_day_to_join,"
        " late_is_missed = excluded.late_is_missed, copy_facilitator = excluded.copy_facilitator,"
        " all_clear = excluded.all_clear, per_user_time = excluded.per_user_time,"
        " updated_at = excluded.updated_at",
        (
            programme.id,
            programme.title,
            programme.time_zone,
            programme.grace_minutes,
            None if programme.closed_on is None else programme.closed_on.isoformat(),
            msgspec.json.encode(programme.managers).decode(),
            programme.log_url,
            programme.target_week,
            programme.last_day_to_join,
            int(programme.late_is_missed),
            int(programme.copy_facilitator),
            int(programme.all_clear),
            int(programme.per_user_time),
            tx.now,
            tx.now,
        ),
    )


async def programme(tx: Tx, id: str) -> Programme | None:
    """Return a programme."""
    row = await tx.fetch_one(select(PROGRAMME).where(PROGRAMME.c.id == id))
    return None if row is None else _programme(row)


async def programmes(tx: Tx, after: str | None = None, count: int = 1_000) -> list[Programme]:
    """Return programmes by id, after one."""
    statement = select(PROGRAMME).order_by(PROGRAMME.c.id).limit(count)
    if after is not None:
        statement = statement.where(PROGRAMME.c.id > after)
    return [_programme(row) for row in await tx.fetch(statement)]


async def put_offering(tx: Tx, offering: Offering) -> None:
    """Insert or replace an offering; it stays in the programme that it was made in."""
    await tx.execute(
        "INSERT INTO offering (id, programme_id, title, facilitator_id, starts_on, ends_on,"
        " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET title = excluded.title,"
        " facilitator_id = excluded.facilitator_id, starts_on = excluded.starts_on,"
        " ends_on = excluded.ends_on, updated_at = excluded.updated_at",
        (
            offering.id,
            offering.programme_id,
            offering.title,
            offering.facilitator_id,
            offering.starts_on.isoformat(),
            offering.ends_on.isoformat(),
            tx.now,
            tx.now,
        ),
    )


async def offering(tx: Tx, id: str) -> Offering | None:
    """Return an offering."""
    row = await tx.fetch_one(select(OFFERING).where(OFFERING.c.id == id))
    return None if row is None else _offering(row)


async def made_at(tx: Tx, programme_id: str) -> dict[str, int]:
    """Return by offering when Homeroom was told of it."""
    rows = await tx.fetch(
        select(OFFERING.c.id, OFFERING.c.created_at).where(OFFERING.c.programme_id == programme_id)
    )
    return {row[0]: row[1] for row in rows}


async def offerings(tx: Tx, programme_id: str) -> list[Offering]:
    """Return the offerings of a programme by id."""
    rows = await tx.fetch(
        select(OFFERING).where(OFFERING.c.programme_id == programme_id).order_by(OFFERING.c.id)
    )
    return [_offering(row) for row in rows]


async def add_log(tx: Tx, log: Log) -> bool:
    """Insert a log; False if its week has one."""
    changed = await tx.execute(
        "INSERT INTO activity_log (id, offering_id, week_key, facilitator_id, programme_id,"
        " status, content, created_at, updated_at, submitted_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (offering_id, week_key) DO NOTHING",
        (
            log.id,
            log.offering_id,
            log.week_key,
            log.facilitator_id,
            log.programme_id,
            log.status,
            msgspec.json.encode(log.content).decode(),
            tx.now,
            tx.now,
            log.submitted_at,
        ),
    )
    return changed == 1


async def change_log(
    tx: Tx, id: str, status: str, content: Mapping[str, Any], submitted_at: int | None
) -> None:
    """Replace what a log says; when it was first submitted stays."""
    await tx.execute(
        "UPDATE activity_log SET status = ?, content = ?, updated_at = ?,"
        " submitted_at = COALESCE(submitted_at, ?) WHERE id = ?",
        (status, msgspec.json.encode(content).decode(), tx.now, submitted_at, id),
    )


async def log(tx: Tx, id: str) -> Log | None:
    """Return a log."""
    row = await tx.fetch_one(select(LOG).where(LOG.c.id == id))
    return None if row is None else _log(row)


async def log_of(tx: Tx, offering_id: str, week_key: str) -> Log | None:
    """Return the log of an offering and a week."""
    row = await tx.fetch_one(
        select(LOG).where(LOG.c.offering_id == offering_id, LOG.c.week_key == week_key)
    )
    return None if row is None else _log(row)


async def delete_log(tx: Tx, id: str) -> None:
    """Delete a log."""
    await tx.execute(delete(LOG).where(LOG.c.id == id))


async def newest_logs(
    tx: Tx,
    *,
    facilitator_id: str | None,
    programme_ids: Sequence[str] | None,
    offering_id: str | None,
    week_key: str | None,
    before_id: str | None,
    count: int,
) -> list[Log]:
    """Return logs, newest first, before an id; ``programme_ids`` None is all of them."""
    statement = select(LOG)
    for column, value in (
        (LOG.c.facilitator_id, facilitator_id),
        (LOG.c.offering_id, offering_id),
        (LOG.c.week_key, week_key),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if programme_ids is not None:
        statement = statement.where(LOG.c.programme_id.in_(programme_ids))
    if before_id is not None:
        statement = statement.where(LOG.c.id < before_id)
    rows = await tx.fetch(statement.order_by(LOG.c.id.desc()).limit(count))
    return [_log(row) for row in rows]


async def add_exemption(
    tx: Tx, programme_id: str, rule: Exemption, note: str | None, by: str
) -> None:
    """Insert an exemption."""
    await tx.execute(
        "INSERT INTO exemption (id, programme_id, user_id, offering_id, starts_on, ends_on,"
        " reason, note, created_by, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            rule.id,
            programme_id,
            rule.user_id,
            rule.offering_id,
            rule.starts_on.isoformat(),
            rule.ends_on.isoformat(),
            rule.reason,
            note,
            by,
            tx.now,
        ),
    )


async def exemptions(tx: Tx, programme_id: str) -> list[KeptExemption]:
    """Return the exemptions of a programme, the newest first."""
    rows = await tx.fetch(
        select(EXEMPTION)
        .where(EXEMPTION.c.programme_id == programme_id)
        .order_by(EXEMPTION.c.starts_on.desc(), EXEMPTION.c.id.desc())
    )
    return [_exemption(row) for row in rows]


async def delete_exemption(tx: Tx, programme_id: str, id: str) -> bool:
    """Delete an exemption; say whether there was one."""
    changed = await tx.execute(
        delete(EXEMPTION).where(EXEMPTION.c.programme_id == programme_id, EXEMPTION.c.id == id)
    )
    return changed == 1
