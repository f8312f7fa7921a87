"""The rows of schedules and their slots; a slot is unique, so it is fired once by any number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import msgspec
import structlog
from msgspec.structs import replace

from homeroom.clock import SECOND, microseconds
from homeroom.db.id import is_outside_id, natural_id
from homeroom.db.tx import Row, Tx
from homeroom.errors import Conflict, Invalid, NotFound
from homeroom.jobs import schedule as rule
from homeroom.jobs.args import JobArgs, SlotArgs, decode
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import Registry
from homeroom.jobs.schedule import Slot
from homeroom.jobs.store import marks

log = structlog.get_logger(__name__)

SCHEDULES_TOPIC = "schedules"
CATCH_UP = timedelta(hours=1)
_PUNCTUAL = timedelta(minutes=1)
"""No window is shorter: a scheduler looks once a second, and a busy one less often."""
_AHEAD = microseconds(timedelta(minutes=1))
"""A slot of a later time was fired by a clock that was wrong; by less two machines' may differ."""
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

    @property
    def outcome(self) -> str:
        """Return ``ok``, ``late`` or ``missed``."""
        if self.state == "missed":
            return "missed"
        return "late" if self.late > microseconds(_PUNCTUAL) else "ok"


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
    *,
    keep_edits: bool = False,
) -> None:
    """Have a job added at every slot of a cron in an IANA time zone; repeatable.

    A slot that comes due while no scheduler runs is still fired if that is less than ``catch_up``
    ago, and otherwise recorded as missed. A new cron or zone begins now; a paused one stays paused.
    With ``keep_edits`` a schedule that is there keeps its cron and window, which an operator may
    have changed. Raises ``Invalid`` for a cron or zone that cannot be read.
    """
    row = await tx.fetch_one(f"SELECT {_COLUMNS} FROM schedule WHERE name = ?", (name,))
    if row is not None and keep_edits:
        cron, catch_up = row[1], timedelta(microseconds=row[7])
    try:
        upcoming = rule.following(cron, time_zone, tx.now)
    except ValueError as error:
        raise Invalid(f"The schedule {name!r} cannot be kept: {error}.") from error
    payload = msgspec.json.encode(args).decode()
    window = microseconds(max(catch_up, _PUNCTUAL))
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


async def change_schedule(
    tx: Tx,
    name: str,
    *,
    cron: str | None = None,
    time_zone: str | None = None,
    catch_up: timedelta | None = None,
) -> Schedule:
    """Change when a schedule fires, as an operator wants it; a new cron or zone begins now.

    Raises ``NotFound``, and ``Invalid`` for a cron or zone that cannot be read.
    """
    found = await get_schedule(tx, name)
    cron, time_zone = cron or found.cron, time_zone or found.time_zone
    try:
        upcoming = rule.following(cron, time_zone, tx.now)
    except ValueError as error:
        raise Invalid(f"The schedule {name!r} cannot be kept: {error}.") from error
    window = found.catch_up if catch_up is None else microseconds(max(catch_up, _PUNCTUAL))
    await tx.execute("UPDATE schedule SET catch_up = ? WHERE name = ?", (window, name))
    if (cron, time_zone) != (found.cron, found.time_zone):
        await tx.execute(
            "UPDATE schedule SET cron = ?, time_zone = ?, last_slot_at = ?, next_slot_at = ?"
            " WHERE name = ?",
            (cron, time_zone, tx.now, upcoming, name),
        )
    tx.notify(SCHEDULES_TOPIC, name)
    return await get_schedule(tx, name)


async def remove_schedule(tx: Tx, name: str) -> None:
    """Drop a schedule whose cause is gone; its slots stay for as long as all do."""
    await tx.execute("DELETE FROM schedule WHERE name = ?", (name,))


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


async def refresh_schedules(tx: Tx) -> int:
    """Work out anew when each schedule fires next; return how many that changes.

    The rules of time zones change with the release of ``tzdata``, and a clock may have been ahead:
    done at every start.
    """
    changed = 0
    for each in await schedules(tx):
        last = each.last_slot_at
        if last > tx.now + _AHEAD:
            last = tx.now
            await _come_back(tx, each)
        upcoming = rule.following(each.cron, each.time_zone, last)
        if upcoming != each.next_slot_at:
            changed += await tx.execute(
                "UPDATE schedule SET next_slot_at = ? WHERE name = ?", (upcoming, each.name)
            )
    return changed


async def _come_back(tx: Tx, found: Schedule) -> None:
    """Fire slots from now on that a clock had passed which was ahead; those it fired are done."""
    ahead = (found.last_slot_at - tx.now) // SECOND
    log.warning("schedule_was_ahead", schedule=found.name, seconds=ahead)
    await tx.execute("UPDATE schedule SET last_slot_at = ? WHERE name = ?", (tx.now, found.name))
    await tx.execute(
        "DELETE FROM schedule_slot WHERE schedule = ? AND slot_at > ? AND state = 'missed'",
        (found.name, tx.now),
    )


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
    job_id = _job_id(found.name, slot.name) if fires else None
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
        punctual = late <= microseconds(_PUNCTUAL)
        await enqueue(tx, _args(registry, found, slot, late=not punctual), id=job_id)
    return taken


def _job_id(name: str, slot: str) -> str:
    """Return the natural id of a slot's job; one that would be too long is digested."""
    job_id = natural_id("schedule", name, slot)
    if is_outside_id(job_id):
        return job_id
    return natural_id("schedule", hashlib.sha256(job_id.encode()).hexdigest()[:32], slot)


def _args(
    registry: Registry, found: Schedule, slot: Slot, *, late: bool, by_hand: bool = False
) -> JobArgs:
    args: JobArgs = decode(registry.get(found.kind).args, found.payload, found.version)
    if not isinstance(args, SlotArgs):
        return args
    return replace(
        args, schedule=found.name, slot=slot.name, slot_at=slot.at, late=late, by_hand=by_hand
    )


def _latest(found: Schedule, now: int) -> Slot:
    slot = rule.latest(found.cron, found.time_zone, now)
    if slot is None:
        raise Conflict(f"The schedule {found.name!r} has had no slot yet.")
    return slot


async def run_now(tx: Tx, registry: Registry, name: str) -> FiredSlot:
    """Add the job of the latest slot, whatever became of it and however long ago it was.

    A slot that nobody fired is fired by that. What a job did for the slot before it must not do
    twice: that is for its keys to see to. Raises ``NotFound``, ``Conflict`` without any slot.
    """
    found = await get_schedule(tx, name)
    slot = _latest(found, tx.now)
    late = tx.now - slot.at
    args = _args(registry, found, slot, late=late > microseconds(_PUNCTUAL), by_hand=True)
    job_id = await enqueue(tx, args)
    await tx.execute(
        "INSERT INTO schedule_slot (schedule, slot, slot_at, state, late, fired_at, job)"
        " VALUES (?, ?, ?, 'fired', ?, ?, ?) ON CONFLICT (schedule, slot) DO UPDATE SET"
        " state = excluded.state, fired_at = excluded.fired_at,"
        " job = COALESCE(schedule_slot.job, excluded.job)",
        (name, slot.name, slot.at, late, tx.now, job_id),
    )
    return FiredSlot(name, slot.name, slot.at, "fired", late, tx.now, job_id)


async def preview(tx: Tx, registry: Registry, name: str) -> tuple[Slot, Any]:
    """Say what a run of the latest slot would do, changing nothing.

    Raises ``NotFound``, ``Conflict`` for a schedule whose job cannot tell.
    """
    found = await get_schedule(tx, name)
    handler = registry.get(found.kind)
    if handler.preview is None:
        raise Conflict(f"The job {found.kind} cannot say beforehand what it would do.")
    slot = _latest(found, tx.now)
    late = tx.now - slot.at > microseconds(_PUNCTUAL)
    args = _args(registry, found, slot, late=late, by_hand=True)
    return slot, await handler.preview(tx, args)


async def forget_slots(tx: Tx, before: int, limit: int = 1_000) -> list[str]:
    """Delete slots older than an instant; return the ids of the jobs that they had caused."""
    rows = await tx.fetch(
        "DELETE FROM schedule_slot WHERE (schedule, slot) IN (SELECT schedule, slot"
        " FROM schedule_slot WHERE slot_at < ? LIMIT ?) RETURNING job",
        (before, limit),
    )
    return [row[0] for row in rows if row[0] is not None]
