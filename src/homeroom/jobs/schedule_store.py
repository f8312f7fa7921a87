"""Rows of schedules and their slots; a slot is a unique key, so it fires once.

Any number of processes may fire slots at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import msgspec
import structlog
from msgspec.structs import replace

from homeroom.db.tx import Tx
from homeroom.errors import Conflict, Invalid, NotFound
from homeroom.instant import SECOND, to_microseconds
from homeroom.jobs.enqueue import enqueue
from homeroom.jobs.handler import PreviewHandler, Registry
from homeroom.jobs.job import JobArgs, SlotArgs, decode_args
from homeroom.jobs.schedule import ScheduleSlot, iter_slots, latest_slot, next_slot_time
from homeroom.jobs.store import placeholders, schedule_slot_table, schedule_table
from homeroom.time_zone import check_time_zone

log = structlog.get_logger(__name__)

SCHEDULES_TOPIC = "schedules"
DEFAULT_CATCH_UP = timedelta(hours=1)
ON_TIME_TOLERANCE = timedelta(minutes=1)
"""Shortest catch-up window: maintenance runs once a second, and less often when it is busy."""
_CLOCK_TOLERANCE = to_microseconds(timedelta(minutes=1))
"""Normal difference between two machines' clocks; a slot further ahead was a wrong clock's."""
_NEVER = 1 << 62
SLOT_RETENTION = timedelta(days=90)
"""Time for which slots are kept. An older slot that was missed is neither recorded nor reported."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule. Instants and spans are microseconds."""

    name: str
    cron: str
    time_zone: str
    kind: str
    payload: dict[str, Any]
    version: int
    paused: bool
    catch_up: int
    last_slot_at: int
    """Every slot up to this instant was fired or recorded as missed."""
    next_slot_at: int | None


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """A slot that was fired or missed. Instants and spans are microseconds."""

    schedule: str
    slot: str
    slot_at: int
    state: Literal["fired", "missed"]
    late: int
    fired_at: int
    job: str | None
    reported_at: int | None = None
    """When people were told that it was missed."""

    @property
    def outcome(self) -> str:
        """Return ``ok``, ``late`` or ``missed``."""
        if self.state == "missed":
            return "missed"
        return "late" if self.late > to_microseconds(ON_TIME_TOLERANCE) else "ok"


async def declare_schedule(
    tx: Tx,
    name: str,
    cron: str,
    time_zone: str,
    args: JobArgs,
    catch_up: timedelta = DEFAULT_CATCH_UP,
    *,
    keep_operator_changes: bool = False,
) -> None:
    """Add a job at every slot of a cron in an IANA time zone; may be called again.

    Where the kind is of consequence, a slot that comes due while no process fires slots is still
    fired if it is less than ``catch_up`` late, and otherwise recorded as missed. Of all other kinds
    the latest slot is fired, however late, and the earlier ones are skipped. A new cron or zone
    begins now; a paused schedule stays paused. With ``keep_operator_changes`` an existing schedule
    keeps its cron and window. Raises ``Invalid`` for a cron or zone that cannot be read.
    """
    existing = await _find_schedule(tx, name)
    if existing is not None and keep_operator_changes:
        cron, catch_up = existing.cron, timedelta(microseconds=existing.catch_up)
    schedule = Schedule(
        name=name,
        cron=cron,
        time_zone=time_zone,
        kind=args.kind,
        payload=msgspec.to_builtins(args),
        version=args.version,
        paused=False,
        catch_up=to_microseconds(max(catch_up, ON_TIME_TOLERANCE)),
        last_slot_at=tx.now,
        next_slot_at=_next_slot(name, cron, time_zone, tx.now),
    )
    is_unmoved = existing is not None and (existing.cron, existing.time_zone) == (cron, time_zone)
    kept = ("paused", "last_slot_at", "next_slot_at") if is_unmoved else ("paused",)
    await tx.insert(schedule_table, [schedule], on_conflict="update", keep=kept)
    if not is_unmoved:
        tx.notify(SCHEDULES_TOPIC, name)


def _next_slot(name: str, cron: str, time_zone: str, now: int) -> int | None:
    try:
        return next_slot_time(cron, time_zone, now)
    except ValueError as error:
        raise Invalid(f"The schedule {name!r} is not valid: {error}.") from error


def _check_time_zone(time_zone: str) -> None:
    try:
        check_time_zone(time_zone)
    except ValueError as error:
        raise Invalid(f"The time zone {error}.") from error


async def change_schedule(
    tx: Tx,
    name: str,
    *,
    cron: str | None = None,
    time_zone: str | None = None,
    catch_up: timedelta | None = None,
) -> Schedule:
    """Change the times of a schedule for an operator; a new cron or zone begins now.

    Raises ``NotFound``, and ``Invalid`` for a cron or zone that cannot be read.
    """
    schedule = await get_schedule(tx, name)
    if time_zone is not None:
        _check_time_zone(time_zone)
    cron, time_zone = cron or schedule.cron, time_zone or schedule.time_zone
    upcoming = _next_slot(name, cron, time_zone, tx.now)
    window = (
        schedule.catch_up if catch_up is None else to_microseconds(max(catch_up, ON_TIME_TOLERANCE))
    )
    await tx.execute("UPDATE schedule SET catch_up = ? WHERE name = ?", (window, name))
    if (cron, time_zone) != (schedule.cron, schedule.time_zone):
        await tx.execute(
            "UPDATE schedule SET cron = ?, time_zone = ?, last_slot_at = ?, next_slot_at = ?"
            " WHERE name = ?",
            (cron, time_zone, tx.now, upcoming, name),
        )
    tx.notify(SCHEDULES_TOPIC, name)
    return await get_schedule(tx, name)


async def remove_schedule(tx: Tx, name: str) -> None:
    """Delete a schedule; its slots stay until their retention ends."""
    await tx.execute("DELETE FROM schedule WHERE name = ?", (name,))


async def schedules(tx: Tx) -> list[Schedule]:
    """Return all schedules by name."""
    return await tx.fetch_into(Schedule, "SELECT * FROM schedule ORDER BY name")


async def get_schedule(tx: Tx, name: str, *, lock: bool = False) -> Schedule:
    """Return a schedule; raise ``NotFound``.

    With ``lock`` no other transaction changes it before this one ends.
    """
    schedule = await _find_schedule(tx, name, ending=tx.row_lock if lock else "")
    if schedule is None:
        raise NotFound(f"There is no schedule {name!r}.")
    return schedule


async def _find_schedule(tx: Tx, name: str, ending: str = "") -> Schedule | None:
    return await tx.fetch_one_into(
        Schedule, f"SELECT * FROM schedule WHERE name = ?{ending}", (name,)
    )


async def fired_slots(tx: Tx, name: str, limit: int = 50) -> list[SlotRecord]:
    """Return the last slots of a schedule, newest first."""
    return await tx.fetch_into(
        SlotRecord,
        "SELECT * FROM schedule_slot WHERE schedule = ? ORDER BY slot_at DESC LIMIT ?",
        (name, limit),
    )


_RECENT_SLOTS = 50


async def last_success(tx: Tx, name: str) -> int | None:
    """Return when the last job of a schedule's recent slots was done; None for none."""
    [(at,)] = await tx.fetch(
        "SELECT MAX(j.finished_at) FROM (SELECT job FROM schedule_slot WHERE schedule = ?"
        " ORDER BY slot DESC LIMIT ?) AS s JOIN job AS j ON j.id = s.job"
        " WHERE j.state = 'completed'",
        (name, _RECENT_SLOTS),
    )
    return None if at is None else int(at)


async def pause_schedule(tx: Tx, name: str) -> None:
    """Stop firing slots of a schedule until it is resumed; raise ``NotFound``."""
    await get_schedule(tx, name)
    await tx.execute("UPDATE schedule SET paused = 1 WHERE name = ?", (name,))


async def resume_schedule(tx: Tx, name: str) -> None:
    """Fire slots again, but skip those of the pause; raise ``NotFound``."""
    schedule = await get_schedule(tx, name, lock=True)
    await tx.execute(
        "UPDATE schedule SET paused = 0, last_slot_at = ?, next_slot_at = ? WHERE name = ?",
        (tx.now, next_slot_time(schedule.cron, schedule.time_zone, tx.now), name),
    )
    tx.notify(SCHEDULES_TOPIC, name)


async def refresh_schedules(tx: Tx) -> int:
    """Compute the next slot of each schedule again; return the number that changed.

    Done at every start, because the rules of time zones change with releases of ``tzdata``, and a
    clock may have been ahead.
    """
    changed = 0
    for each in await schedules(tx):
        if is_ahead(each, tx.now):
            await rewind_schedule(tx, each)
            changed += 1
            continue
        upcoming = next_slot_time(each.cron, each.time_zone, each.last_slot_at)
        if upcoming != each.next_slot_at:
            changed += await tx.execute(
                "UPDATE schedule SET next_slot_at = ? WHERE name = ?", (upcoming, each.name)
            )
    return changed


def is_ahead(schedule: Schedule, now: int) -> bool:
    """Return whether a clock ahead of time fired the slots of a schedule."""
    return schedule.last_slot_at > now + _CLOCK_TOLERANCE


async def rewind_schedule(tx: Tx, schedule: Schedule) -> None:
    """Continue from now; reopen what a clock ahead of time recorded as missed."""
    ahead_seconds = (schedule.last_slot_at - tx.now) // SECOND
    log.warning("schedule_rewound", schedule=schedule.name, seconds=ahead_seconds)
    await tx.execute(
        "UPDATE schedule SET last_slot_at = ?, next_slot_at = ? WHERE name = ?",
        (tx.now, next_slot_time(schedule.cron, schedule.time_zone, tx.now), schedule.name),
    )
    await tx.execute(
        "DELETE FROM schedule_slot WHERE schedule = ? AND slot_at > ? AND state = 'missed'",
        (schedule.name, tx.now),
    )


async def due_schedules(tx: Tx, kinds: Sequence[str]) -> list[str]:
    """Return the names of schedules of these kinds that have a slot to fire.

    A schedule that a clock ahead of time has moved is one of them: it has to be rewound.
    """
    if not kinds:
        return []
    rows = await tx.fetch(
        "SELECT name FROM schedule WHERE paused = 0 AND (next_slot_at <= ? OR last_slot_at > ?)"
        f" AND kind IN ({placeholders(len(kinds))}) ORDER BY next_slot_at",
        (tx.now, tx.now + _CLOCK_TOLERANCE, *kinds),
    )
    return [name for (name,) in rows]


def slot_args(
    registry: Registry, schedule: Schedule, slot: ScheduleSlot, *, late: bool, by_hand: bool = False
) -> JobArgs:
    """Return the arguments of the job for a slot."""
    args: JobArgs = decode_args(
        registry.get(schedule.kind).args, schedule.payload, schedule.version
    )
    if not isinstance(args, SlotArgs):
        return args
    return replace(
        args, schedule=schedule.name, slot=slot.name, slot_at=slot.at, late=late, by_hand=by_hand
    )


def _latest_slot(schedule: Schedule, now: int) -> ScheduleSlot:
    slot = latest_slot(schedule.cron, schedule.time_zone, now)
    if slot is None:
        raise Conflict(f"The schedule {schedule.name!r} has had no slot yet.")
    return slot


async def run_schedule_now(tx: Tx, registry: Registry, name: str) -> SlotRecord:
    """Add a job for the latest slot, whether or not it was fired or is late.

    A slot that was not fired counts as fired by this run. The keys of the job have to prevent that
    it repeats what an earlier job did for the slot. Raises ``NotFound``, ``Conflict`` without any
    slot.
    """
    schedule = await get_schedule(tx, name)
    slot = _latest_slot(schedule, tx.now)
    late = tx.now - slot.at
    args = slot_args(
        registry, schedule, slot, late=late > to_microseconds(ON_TIME_TOLERANCE), by_hand=True
    )
    job_id = await enqueue(tx, args)
    record = SlotRecord(name, slot.name, slot.at, "fired", late, tx.now, job_id)
    if not await tx.insert(schedule_slot_table, [record], on_conflict="ignore"):
        await tx.execute(
            "UPDATE schedule_slot SET state = 'fired', fired_at = ?, job = COALESCE(job, ?)"
            " WHERE schedule = ? AND slot = ?",
            (tx.now, job_id, name, slot.name),
        )
    return record


async def preview_schedule(tx: Tx, registry: Registry, name: str) -> tuple[ScheduleSlot, Any]:
    """Return the latest slot and what its job would do, without running it.

    Raises ``NotFound``, ``Conflict`` for a schedule whose job has no preview.
    """
    schedule = await get_schedule(tx, name)
    preview = _get_preview(registry, schedule)
    slot = _latest_slot(schedule, tx.now)
    late = tx.now - slot.at > to_microseconds(ON_TIME_TOLERANCE)
    args = slot_args(registry, schedule, slot, late=late, by_hand=True)
    return slot, await preview(tx, args)


@dataclass(frozen=True, slots=True)
class UpcomingSlot:
    """The coming slot of a schedule, and what its job would do then as of now."""

    schedule: Schedule
    slot: ScheduleSlot | None
    """None: the schedule is paused or has no further slot."""
    preview: Any = None


async def list_upcoming_schedules(tx: Tx, registry: Registry, limit: int) -> list[Schedule]:
    """Return the schedules whose jobs have a preview, the soonest first."""
    found = [
        each
        for each in await schedules(tx)
        if each.kind in registry.kinds() and registry.get(each.kind).preview is not None
    ]
    found.sort(key=lambda each: (each.paused, each.next_slot_at or _NEVER, each.name))
    return found[:limit]


async def preview_next_slot(tx: Tx, registry: Registry, name: str) -> UpcomingSlot:
    """Return the coming slot of a schedule and what its job would do as of now.

    The preview is made in this transaction as if it were the instant of the slot: weeks open,
    deadlines pass and quiet hours end until then. Raises ``NotFound``, ``Conflict`` for a schedule
    whose job has no preview.
    """
    schedule = await get_schedule(tx, name)
    preview = _get_preview(registry, schedule)
    if schedule.paused or schedule.next_slot_at is None:
        return UpcomingSlot(schedule, None)
    slot = next(iter_slots(schedule.cron, schedule.time_zone, schedule.next_slot_at - 1))
    args = slot_args(registry, schedule, slot, late=False)
    now = tx.now
    tx.now = max(now, slot.at)
    try:
        return UpcomingSlot(schedule, slot, await preview(tx, args))
    finally:
        tx.now = now


def _get_preview(registry: Registry, schedule: Schedule) -> PreviewHandler[Any]:
    preview = registry.get(schedule.kind).preview
    if preview is None:
        raise Conflict(
            f"Jobs of the kind {schedule.kind} have no preview.",
            hint="Only schedules that write to people have one.",
        )
    return preview


async def delete_slots(tx: Tx, before: int, limit: int = 1_000) -> list[str]:
    """Delete slots older than an instant; return the ids of their jobs."""
    rows = await tx.fetch(
        "DELETE FROM schedule_slot WHERE (schedule, slot) IN (SELECT schedule, slot"
        " FROM schedule_slot WHERE slot_at < ? LIMIT ?) RETURNING job",
        (before, limit),
    )
    return [job_id for (job_id,) in rows if job_id is not None]


async def missed_since(tx: Tx, since: int) -> list[SlotRecord]:
    """Return the slots found to be missed since an instant, the earliest first."""
    return await tx.fetch_into(
        SlotRecord,
        "SELECT * FROM schedule_slot WHERE state = 'missed' AND fired_at >= ? ORDER BY slot_at",
        (since,),
    )
