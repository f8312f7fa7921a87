"""Fire the due slots of a schedule, or record them as missed.

A slot is a unique key, so it fires once, and any number of processes may fire slots at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from homeroom.db.ids import is_external_id, natural_id
from homeroom.db.tx import Tx
from homeroom.instant import to_microseconds
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import JobArgs
from homeroom.jobs.schedule import ScheduleSlot, due_slots, latest_slot, next_slot_time
from homeroom.jobs.schedule_store import (
    ON_TIME_TOLERANCE,
    SLOT_RETENTION,
    Schedule,
    SlotRecord,
    get_schedule,
    is_ahead,
    rewind_schedule,
    slot_args,
)
from homeroom.jobs.store import placeholders, schedule_slot_table

SLOTS_PER_TRANSACTION = 50
"""A clock that leaps makes many slots due at once; ingest writes between two transactions."""


@dataclass(frozen=True, slots=True)
class FiredSlots:
    """The slots that one transaction fired or recorded as missed."""

    records: Sequence[SlotRecord] = ()
    has_more: bool = False
    """More slots of the schedule are due."""

    @property
    def missed(self) -> list[SlotRecord]:
        """Return those that were missed, the earliest first."""
        return [record for record in self.records if record.state == "missed"]


async def fire_due_slots(tx: Tx, registry: Registry, name: str) -> FiredSlots:
    """Fire at most ``SLOTS_PER_TRANSACTION`` slots of a schedule, the earliest first.

    Slots of a kind of consequence that are later than the catch-up window are recorded as missed.
    """
    schedule = await get_schedule(tx, name, lock=True)
    if schedule.paused:
        return FiredSlots()
    if is_ahead(schedule, tx.now):  # the clock has gone back while this process was running
        await rewind_schedule(tx, schedule)
        return FiredSlots()
    slots, has_more = _due_slots(schedule, registry, tx.now)
    known = await _known_slots(tx, name, slots)
    records = [
        _slot_record(schedule, registry, slot, tx.now) for slot in slots if slot.name not in known
    ]
    missed = [record for record in records if record.state == "missed"]
    await tx.insert(schedule_slot_table, missed, on_conflict="ignore")
    fired = [
        record
        for record in records
        if record.state == "fired" and await _fire_slot(tx, registry, schedule, record)
    ]
    last = slots[-1].at if slots else schedule.last_slot_at
    await tx.execute(
        "UPDATE schedule SET last_slot_at = ?, next_slot_at = ?"
        " WHERE name = ? AND last_slot_at <= ?",
        (last, next_slot_time(schedule.cron, schedule.time_zone, last), name, last),
    )
    return FiredSlots([*missed, *fired], has_more)


def _is_of_consequence(schedule: Schedule, registry: Registry) -> bool:
    args: type[JobArgs] = registry.get(schedule.kind).args
    return args.of_consequence


def _due_slots(schedule: Schedule, registry: Registry, now: int) -> tuple[list[ScheduleSlot], bool]:
    """Return the slots to fire or to record now, and whether more of them are due.

    Of housekeeping only the latest slot counts: its job does what the earlier ones would have done.
    """
    if not _is_of_consequence(schedule, registry):
        latest = latest_slot(schedule.cron, schedule.time_zone, now)
        is_due = latest is not None and latest.at > schedule.last_slot_at
        return ([latest] if latest is not None and is_due else []), False
    after = max(schedule.last_slot_at, now - to_microseconds(SLOT_RETENTION))
    slots = due_slots(schedule.cron, schedule.time_zone, after, now, SLOTS_PER_TRANSACTION + 1)
    return slots[:SLOTS_PER_TRANSACTION], len(slots) > SLOTS_PER_TRANSACTION


async def _known_slots(tx: Tx, name: str, slots: Sequence[ScheduleSlot]) -> set[str]:
    if not slots:
        return set()
    rows = await tx.fetch(
        "SELECT slot FROM schedule_slot WHERE schedule = ?"
        f" AND slot IN ({placeholders(len(slots))})",
        (name, *(slot.name for slot in slots)),
    )
    return {slot for (slot,) in rows}


def _slot_record(
    schedule: Schedule, registry: Registry, slot: ScheduleSlot, now: int
) -> SlotRecord:
    late = now - slot.at
    fires = late <= schedule.catch_up or not _is_of_consequence(schedule, registry)
    job_id = _slot_job_id(schedule.name, slot.name) if fires else None
    state: Literal["fired", "missed"] = "fired" if fires else "missed"
    return SlotRecord(schedule.name, slot.name, slot.at, state, late, now, job_id)


async def _fire_slot(tx: Tx, registry: Registry, schedule: Schedule, record: SlotRecord) -> bool:
    """Insert a slot and add its job; return False if an operator has just run it."""
    if not await tx.insert(schedule_slot_table, [record], on_conflict="ignore"):
        return False
    slot = ScheduleSlot(record.slot_at, record.slot)
    is_late = record.late > to_microseconds(ON_TIME_TOLERANCE)
    await enqueue(tx, slot_args(registry, schedule, slot, late=is_late), id=record.job)
    return True


async def has_unreported_slots(tx: Tx) -> bool:
    """Return whether there are missed slots that people were not told of."""
    sql = "SELECT 1 FROM schedule_slot WHERE state = 'missed' AND reported_at IS NULL LIMIT 1"
    return await tx.fetch_one(sql) is not None


async def take_unreported_slots(tx: Tx) -> list[SlotRecord]:
    """Return the missed slots that people were not told of, the earliest first.

    They count as reported from this transaction on, so that two processes report none twice.
    """
    columns = ", ".join(column.name for column in schedule_slot_table.columns)
    records = await tx.fetch_into(
        SlotRecord,
        "UPDATE schedule_slot SET reported_at = ? WHERE state = 'missed' AND reported_at IS NULL"
        f" AND slot_at <= ? RETURNING {columns}",
        (tx.now, tx.now),
    )
    return sorted(records, key=lambda record: (record.slot_at, record.schedule))


def _slot_job_id(name: str, slot: str) -> str:
    """Return the natural id of a slot's job; one that would be too long is hashed."""
    job_id = natural_id("schedule", name, slot)
    if is_external_id(job_id):
        return job_id
    return natural_id("schedule", hashlib.sha256(job_id.encode()).hexdigest()[:32], slot)
