"""The rows of schedules and their slots; a slot is unique, so it is fired once by any number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import msgspec

from homeroom.clock import microseconds
from homeroom.db.id import natural_id
from homeroom.db.tx import Row, Tx
from homeroom.errors import Invalid, NotFound
from homeroom.jobs import schedule as rule
from homeroom.jobs.args import JobArgs, decode
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import Registry
from homeroom.jobs.schedule import Slot
from homeroom.jobs.store import marks

SCHEDULES_TOPIC = "schedules"
CATCH_UP = timedelta(hours=1)
_PUNCTUAL = timedelta(minutes=1)
"""No window is shorter: a scheduler looks once a second, and a busy one less often."""
_SLOTS_AT_ONCE = 500
_COLUMNS = (
    "name, cron, time_zone, kind, payload, version, paused, catch_up, last_slot_at, next_slot_at"
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as its row says. Instants and spans are microseconds."""

    name: str
    cron: str
    time_zone: str
    kind: str
    payload: dict[str, Any]
    version: int
    paused: bool
    catch_up: int
    last_slot_at: int
    """Every slot up to here was fired or recorded as missed."""
    next_slot_at: int | None


@dataclass(frozen=True, slots=True)
class FiredSlot:
    """What became of a slot. Instants and spans are microseconds."""

    schedule: str
    slot: str
    slot_at: int
    state: Literal["fired", "missed"]
    late: int
    fired_at: int
    job: str | None


def _to_schedule(row: Row) -> Schedule:
    payload = msgspec.json.decode(row[4], type=dict[str, Any])
    return Schedule(
        name=row[0],
        cron=row[1],
        time_zone=row[2],
        kind=row[3],
        payload=payload,
        version=row[5],
        paused=bool(row[6]),
        catch_up=row[7],
        last_slot_at=row[8],
        next_slot_at=row[9],
    )


async def declare_schedule(
    tx: Tx,
    name: str,
    cron: str,
    time_zone: str,
    args: JobArgs,
    catch_up: timedelta = CATCH_UP,
) -> None:
    """Have a job added at every slot of a cron in an IANA time zone; repeatable.

    A slot that comes due while no scheduler runs is still fired if that is less than ``catch_up``
    ago, and otherwise recorded as missed. A new cron or zone begins now; a paused one stays paused.
    Raises ``Invalid`` for a cron or zone that cannot be read.
    """
    try:
        upcoming = rule.following(cron, time_zone, tx.now)
    except ValueError as error:
        raise Invalid(f"The schedule {name!r} cannot be kept: {error}.") from error
    payload = msgspec.json.encode(args).decode()
    window = microseconds(max(catch_up, _PUNCTUAL))
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM schedule WHERE name = ?", (name,))
    if row is not None and (row[1], row[2]) == (cron, time_zone):
        await tx.execute(
            "UPDATE schedule SET kind = ?, payload = ?, version = ?, catch_up = ? WHERE name = ?",
            (args.kind, payload, args.version, window, name),
        )
        return
    await tx.execute(
        f"INSERT INTO schedule ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, time_zone = excluded.time_zone,"
        " kind = excluded.kind, payload = excluded.payload, version = excluded.version,"
        " catch_up = excluded.catch_up, last_slot_at = excluded.last_slot_at,"
        " next_slot_at = excluded.next_slot_at",
        (name, cron, time_zone, args.kind, payload, args.version, window, tx.now, upcoming),
    )
    tx.notify(SCHEDULES_TOPIC, name)


async def schedules(tx: Tx) -> list[Schedule]:
    """Return all schedules by name."""
    rows = await tx.fetch(f"SELECT {_COLUMNS} FROM schedule ORDER BY name")
    return [_to_schedule(row) for row in rows]


async def get_schedule(tx: Tx, name: str, *, lock: bool = False) -> Schedule:
    """Return a schedule; raise ``NotFound``.

    With ``lock`` nobody else changes it before this transaction ends.
    """
    ending = tx.row_lock if lock else ""
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM schedule WHERE name = ?{ending}", (name,))
    if row is None:
        raise NotFound(f"There is no schedule {name!r}.")
    return _to_schedule(row)


async def fired_slots(tx: Tx, name: str, limit: int = 50) -> list[FiredSlot]:
    """Return the last slots of a schedule, newest first."""
    rows = await tx.fetch(
        "SELECT schedule, slot, slot_at, state, late, fired_at, job FROM schedule_slot"
        " WHERE schedule = ? ORDER BY slot_at DESC LIMIT ?",
        (name, limit),
    )
    return [FiredSlot(*row) for row in rows]


async def pause_schedule(tx: Tx, name: str) -> None:
    """Fire no slot of a schedule until it is resumed; raise ``NotFound``."""
    await get_schedule(tx, name)
    await tx.execute("UPDATE schedule SET paused = 1 WHERE name = ?", (name,))


async def resume_schedule(tx: Tx, name: str) -> None:
    """Fire slots again from now on; those of the pause are left out. Raises ``NotFound``."""
    found = await get_schedule(tx, name, lock=True)
    await tx.execute(
        "UPDATE schedule SET paused = 0, last_slot_at = ?, next_slot_at = ? WHERE name = ?",
        (tx.now, rule.following(found.cron, found.time_zone, tx.now), name),
    )
    tx.notify(SCHEDULES_TOPIC, name)


async def due_schedules(tx: Tx, kinds: Sequence[str]) -> list[str]:
    """Return the names of schedules that have a slot to fire and a kind that is known here."""
    if not kinds:
        return []
    rows = await tx.fetch(
        "SELECT name FROM schedule WHERE paused = 0 AND next_slot_at <= ?"
        f" AND kind IN ({marks(len(kinds))}) ORDER BY next_slot_at",
        (tx.now, *kinds),
    )
    return [row[0] for row in rows]


async def fire(tx: Tx, registry: Registry, name: str) -> list[FiredSlot]:
    """Fire, or record as missed, what is due of a schedule; return the slots taken here."""
    found = await get_schedule(tx, name, lock=True)
    if found.paused:
        return []
    slots = rule.due(found.cron, found.time_zone, found.last_slot_at, tx.now, _SLOTS_AT_ONCE)
    taken = [one for slot in slots if (one := await _take(tx, registry, found, slot))]
    last = slots[-1].at if slots else found.last_slot_at
    await tx.execute(
        "UPDATE schedule SET last_slot_at = ?, next_slot_at = ?"
        " WHERE name = ? AND last_slot_at <= ?",
        (last, rule.following(found.cron, found.time_zone, last), name, last),
    )
    return taken


async def _take(tx: Tx, registry: Registry, found: Schedule, slot: Slot) -> FiredSlot | None:
    """Insert a slot and add its job; None if another scheduler has it."""
    late = tx.now - slot.at
    fires = late <= found.catch_up
    job_id = natural_id("schedule", found.name, slot.name) if fires else None
    taken = FiredSlot(
        found.name, slot.name, slot.at, "fired" if fires else "missed", late, tx.now, job_id
    )
    added = await tx.execute(
        "INSERT INTO schedule_slot (schedule, slot, slot_at, state, late, fired_at, job)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (schedule, slot) DO NOTHING",
        (taken.schedule, taken.slot, slot.at, taken.state, late, tx.now, job_id),
    )
    if not added:
        return None
    if job_id is not None:
        kind = registry.get(found.kind).args
        await enqueue(tx, decode(kind, found.payload, found.version), id=job_id)
    return taken


async def forget_slots(tx: Tx, before: int, limit: int = 1_000) -> list[str]:
    """Delete slots older than an instant; return the ids of the jobs that they had caused."""
    rows = await tx.fetch(
        "DELETE FROM schedule_slot WHERE (schedule, slot) IN (SELECT schedule, slot"
        " FROM schedule_slot WHERE slot_at < ? LIMIT ?) RETURNING job",
        (before, limit),
    )
    return [row[0] for row in rows if row[0] is not None]
