"""Schedules in the database: each slot once, late ones caught up or recorded as missed."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.database import database_at

from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.errors import Conflict, Invalid
from homeroom.instant import from_datetime
from homeroom.jobs import schedule_store, slot_firing
from homeroom.jobs.engine import SqlEngine
from homeroom.jobs.handler import Registry
from homeroom.jobs.job import JobArgs, SlotArgs
from homeroom.jobs.maintenance import JobMaintenance
from homeroom.jobs.outcome import Done

pytestmark = pytest.mark.anyio


class Remind(JobArgs, frozen=True, kw_only=True):
    """A job that a schedule adds."""

    kind = "schedule.remind"
    queue = "schedule"
    of_consequence = True
    week: str = ""


class Sweep(JobArgs, frozen=True, kw_only=True):
    """Housekeeping that a schedule adds."""

    kind = "schedule.sweep"
    queue = "schedule"


@pytest.fixture
def clock() -> Clock:
    """Begin on a Sunday evening."""
    start = from_datetime(datetime(2026, 11, 22, 20, 0, tzinfo=UTC))
    clock = Clock()
    clock.advance(timedelta(microseconds=start - clock.now()))
    return clock


@pytest.fixture
def registry() -> Registry:
    found = Registry()

    async def run(ctx: Any, args: Any) -> Any:
        return Done()

    found.add(Remind, run)
    found.add(Sweep, run)
    return found


async def _declare(db: Database, cron: str, **options: Any) -> None:
    async with db.write() as tx:
        await schedule_store.declare_schedule(
            tx, "weekly", cron, "Europe/Berlin", Remind(week="w"), **options
        )


async def _slots(db: Database) -> list[tuple[str, str]]:
    async with db.read() as tx:
        rows = await schedule_store.fired_slots(tx, "weekly", limit=1_000)
    return [(row.slot, row.state) for row in reversed(rows)]


async def _jobs(db: Database) -> list[str]:
    async with db.read() as tx:
        return [job_id for (job_id,) in await tx.fetch("SELECT id FROM job ORDER BY seq")]


async def test_a_slot_adds_its_job_once(db: Database, clock: Clock, registry: Registry) -> None:
    maintenance = JobMaintenance(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    await maintenance.tick()
    assert await _jobs(db) == []
    clock.advance(timedelta(hours=12, seconds=1))
    await maintenance.tick()
    await maintenance.tick()
    assert await _slots(db) == [("2026-11-23T09:00[Europe/Berlin]", "fired")]
    assert await _jobs(db) == ["schedule.weekly.2026-11-23T09%3A00[Europe%2FBerlin]"]


async def test_twenty_processes_fire_one_slot_once(
    db: Database, database: Path | str, clock: Clock, registry: Registry
) -> None:
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(hours=12, seconds=1))
    others = [database_at(database, clock) for _ in range(20)]
    for other in others:
        await other.open()
    try:
        fired = await asyncio.gather(
            *(
                JobMaintenance(other, registry, SqlEngine(), clock).fire_schedules()
                for other in others
            )
        )
    finally:
        for other in others:
            await other.close()
    assert sum(fired) == 1
    assert len(await _jobs(db)) == 1


async def test_a_process_that_read_an_old_row_does_not_fire_a_slot_again(
    db: Database, clock: Clock, registry: Registry
) -> None:
    maintenance = JobMaintenance(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    async with db.read() as tx:
        old = await schedule_store.get_schedule(tx, "weekly")
    clock.advance(timedelta(hours=12, seconds=1))
    assert await maintenance.fire_schedules() == 1
    async with db.write() as tx:
        await tx.execute(
            "UPDATE schedule SET last_slot_at = ?, next_slot_at = ?",
            (old.last_slot_at, old.next_slot_at),
        )
    assert await maintenance.fire_schedules() == 0
    assert len(await _jobs(db)) == 1


async def test_slots_of_a_downtime_are_caught_up_within_the_window_and_else_recorded(
    db: Database, clock: Clock, registry: Registry
) -> None:
    await _declare(db, "0 * * * *", catch_up=timedelta(hours=2))
    clock.advance(timedelta(hours=5, minutes=30))
    await JobMaintenance(db, registry, SqlEngine(), clock).tick()
    assert await _slots(db) == [
        ("2026-11-22T21:00Z", "missed"),
        ("2026-11-22T22:00Z", "missed"),
        ("2026-11-22T23:00Z", "missed"),
        ("2026-11-23T00:00Z", "fired"),
        ("2026-11-23T01:00Z", "fired"),
    ]
    assert len(await _jobs(db)) == 2


async def test_the_slots_of_a_long_downtime_are_fired_in_bounded_transactions(
    db: Database, clock: Clock, registry: Registry
) -> None:
    await _declare(db, "* * * * *", catch_up=timedelta(minutes=1))
    clock.advance(timedelta(minutes=700, seconds=30))
    async with db.write() as tx:
        first = await slot_firing.fire_due_slots(tx, registry, "weekly")
    assert (len(first.records), first.has_more) == (slot_firing.SLOTS_PER_TRANSACTION, True)
    maintenance = JobMaintenance(db, registry, SqlEngine(), clock)
    assert await maintenance.fire_schedules() == 0  # other steps have their turn in between
    assert await maintenance.fire_schedules() == 1
    states = [state for _, state in await _slots(db)]
    assert (len(states), states.count("fired")) == (700, 1)


async def test_slots_older_than_their_retention_are_not_recorded(
    db: Database, clock: Clock, registry: Registry
) -> None:
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(days=400))
    await JobMaintenance(db, registry, SqlEngine(), clock).fire_schedules()
    assert [state for _, state in await _slots(db)] == ["missed"] * 13


async def test_housekeeping_misses_nothing_and_runs_its_latest_slot(
    db: Database, clock: Clock, registry: Registry
) -> None:
    maintenance = JobMaintenance(db, registry, SqlEngine(), clock)
    async with db.write() as tx:
        await schedule_store.declare_schedule(tx, "weekly", "17 * * * *", "UTC", Sweep())
        await schedule_store.declare_schedule(tx, "daily", "27 3 * * *", "UTC", Sweep())
    clock.advance(timedelta(hours=61))
    assert await maintenance.fire_schedules() == 2
    assert await maintenance.fire_schedules() == 0
    assert await _slots(db) == [("2026-11-25T08:17Z", "fired")]
    assert await _jobs(db) == [
        "schedule.weekly.2026-11-25T08%3A17Z",
        "schedule.daily.2026-11-25T03%3A27[UTC]",  # hours after its catch-up window
    ]


async def test_a_schedule_declared_again_goes_on_and_a_new_cron_begins_now(
    db: Database, clock: Clock, registry: Registry
) -> None:
    maintenance = JobMaintenance(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(hours=12, seconds=1))
    await _declare(db, "0 9 * * 1")
    assert await maintenance.fire_schedules() == 1
    await _declare(db, "0 7 * * 1")  # 07:00 of today has passed
    assert await maintenance.fire_schedules() == 0


async def test_a_paused_schedule_skips_the_slots_of_its_pause(
    db: Database, clock: Clock, registry: Registry
) -> None:
    maintenance = JobMaintenance(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    async with db.write() as tx:
        await schedule_store.pause_schedule(tx, "weekly")
    clock.advance(timedelta(hours=12, seconds=1))
    await maintenance.tick()
    async with db.write() as tx:
        await schedule_store.resume_schedule(tx, "weekly")
    await maintenance.tick()
    assert await _slots(db) == []
    clock.advance(timedelta(days=7))
    assert await maintenance.fire_schedules() == 1


async def test_a_schedule_of_an_unknown_kind_is_not_fired(db: Database, clock: Clock) -> None:
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(hours=12, seconds=1))
    assert await JobMaintenance(db, Registry(), SqlEngine(), clock).fire_schedules() == 0
    assert await _slots(db) == []


async def test_a_cron_that_cannot_be_read_is_refused(db: Database) -> None:
    with pytest.raises(Invalid, match="weekly"):
        await _declare(db, "0 9 * *")


async def test_old_slots_and_the_ids_of_their_jobs_are_deleted(
    db: Database, clock: Clock, registry: Registry
) -> None:
    maintenance = JobMaintenance(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(hours=12, seconds=1))
    await maintenance.tick()
    async with db.write() as tx:
        await tx.execute("UPDATE job SET state = 'completed', finished_at = ?", (tx.now,))
        await schedule_store.pause_schedule(tx, "weekly")
    clock.advance(timedelta(days=91))
    await maintenance.tick()
    assert await _slots(db) == []
    assert await _jobs(db) == []


class RemindSlot(SlotArgs, frozen=True, kw_only=True):
    """A job that needs to know its slot."""

    kind = "schedule.remind_slot"
    queue = "schedule"
    of_consequence = True


@pytest.fixture
def slot_registry(registry: Registry) -> Registry:
    async def run(ctx: Any, args: Any) -> Any:
        return Done()

    async def preview(tx: Any, args: RemindSlot) -> Any:
        return {"slot": args.slot, "late": args.late, "byHand": args.by_hand}

    registry.add(RemindSlot, run, preview=preview)
    return registry


async def _declare_slots(db: Database, name: str = "weekly") -> None:
    async with db.write() as tx:
        await schedule_store.declare_schedule(
            tx, name, "0 9 * * 1", "Europe/Berlin", RemindSlot(), keep_operator_changes=True
        )


async def _payloads(db: Database) -> list[dict[str, Any]]:
    async with db.read() as tx:
        rows = await tx.fetch("SELECT payload FROM job ORDER BY seq")
    return [json.loads(payload) for (payload,) in rows]


async def test_a_job_knows_its_slot_and_whether_it_is_late(
    db: Database, clock: Clock, slot_registry: Registry
) -> None:
    await _declare_slots(db)
    clock.advance(timedelta(hours=12, minutes=30))
    await JobMaintenance(db, slot_registry, SqlEngine(), clock).tick()
    [payload] = await _payloads(db)
    assert payload["slot"] == "2026-11-23T09:00[Europe/Berlin]"
    assert (payload["late"], payload["byHand"]) == (True, False)


async def test_a_run_by_an_operator_is_for_the_latest_slot_and_a_slot_has_one_row(
    db: Database, clock: Clock, slot_registry: Registry
) -> None:
    await _declare_slots(db)
    clock.advance(timedelta(days=3))
    maintenance = JobMaintenance(db, slot_registry, SqlEngine(), clock)
    await maintenance.tick()
    assert await _slots(db) == [("2026-11-23T09:00[Europe/Berlin]", "missed")]
    for _ in range(2):
        async with db.write() as tx:
            await schedule_store.run_schedule_now(tx, slot_registry, "weekly")
    await maintenance.tick()
    assert await _slots(db) == [("2026-11-23T09:00[Europe/Berlin]", "fired")]
    assert [payload["byHand"] for payload in await _payloads(db)] == [True, True]


async def test_a_dry_run_previews_a_run_and_changes_nothing(
    db: Database, slot_registry: Registry
) -> None:
    await _declare_slots(db)
    async with db.read() as tx:
        slot, found = await schedule_store.preview_schedule(tx, slot_registry, "weekly")
    assert slot.name == "2026-11-16T09:00[Europe/Berlin]"
    assert found == {"slot": slot.name, "late": True, "byHand": True}
    assert await _slots(db) == []
    await _declare(db, "0 9 * * 1")
    async with db.read() as tx:
        with pytest.raises(Conflict, match="have no preview"):
            await schedule_store.preview_schedule(tx, slot_registry, "weekly")


async def test_a_change_by_an_operator_survives_the_next_declaration(
    db: Database, clock: Clock, slot_registry: Registry
) -> None:
    await _declare_slots(db)
    async with db.write() as tx:
        await schedule_store.change_schedule(
            tx, "weekly", cron="30 8 * * 1", catch_up=timedelta(days=2)
        )
    await _declare_slots(db)
    async with db.read() as tx:
        found = await schedule_store.get_schedule(tx, "weekly")
    assert (found.cron, found.catch_up) == ("30 8 * * 1", 2 * 86_400_000_000)
    async with db.write() as tx:
        with pytest.raises(Invalid):
            await schedule_store.change_schedule(tx, "weekly", time_zone="Mars/Olympus")


async def test_missed_slots_are_announced_in_the_transaction_that_records_them(
    db: Database, clock: Clock, slot_registry: Registry
) -> None:
    unreported: list[str] = []

    async def missed(tx: Any) -> None:
        slots = await slot_firing.take_unreported_slots(tx)
        unreported.extend(slot.slot for slot in slots)

    await _declare_slots(db)
    clock.advance(timedelta(days=10))
    maintenance = JobMaintenance(
        db,
        slot_registry,
        SqlEngine(),
        clock,
        missed=missed,
    )
    await maintenance.tick()
    await maintenance.tick()
    assert unreported == [
        "2026-11-23T09:00[Europe/Berlin]",
        "2026-11-30T09:00[Europe/Berlin]",
    ]
    assert db.counts["schedule_runs", ("weekly", "missed")] == 2
    async with db.write() as tx:
        assert await slot_firing.take_unreported_slots(tx) == []


async def test_a_schedule_with_the_longest_name_adds_jobs(
    db: Database, clock: Clock, slot_registry: Registry
) -> None:
    await _declare_slots(db, "w" * 128)
    clock.advance(timedelta(hours=12, seconds=1))
    await JobMaintenance(db, slot_registry, SqlEngine(), clock).tick()
    [job_id] = await _jobs(db)
    assert len(job_id) <= 128


async def test_a_start_computes_the_next_slots_again(db: Database, slot_registry: Registry) -> None:
    await _declare_slots(db)
    async with db.write() as tx:
        expected = (await schedule_store.get_schedule(tx, "weekly")).next_slot_at
        await tx.execute("UPDATE schedule SET next_slot_at = next_slot_at + 3600000000")
        assert await schedule_store.refresh_schedules(tx) == 1
        assert await schedule_store.refresh_schedules(tx) == 0
        assert (await schedule_store.get_schedule(tx, "weekly")).next_slot_at == expected


async def test_a_clock_that_was_ahead_does_not_stop_a_schedule(
    db: Database, clock: Clock, registry: Registry
) -> None:
    maintenance = JobMaintenance(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(days=30))
    await maintenance.tick()
    fired = [slot for slot, state in await _slots(db) if state == "fired"]
    clock.advance(timedelta(days=-30))
    async with db.write() as tx:
        await schedule_store.refresh_schedules(tx)
    async with db.read() as tx:
        upcoming = (await schedule_store.get_schedule(tx, "weekly")).next_slot_at
    assert upcoming == from_datetime(datetime(2026, 11, 23, 8, 0, tzinfo=UTC))
    assert [slot for slot, _ in await _slots(db)] == fired
    clock.advance(timedelta(hours=12, seconds=1))
    await maintenance.tick()
    assert ("2026-11-23T09:00[Europe/Berlin]", "fired") in await _slots(db)


async def test_a_clock_that_goes_back_while_a_process_runs_silences_no_schedule(
    db: Database, clock: Clock, registry: Registry
) -> None:
    maintenance = JobMaintenance(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(days=400))
    await maintenance.tick()
    clock.advance(timedelta(days=-400))
    await maintenance.tick()
    assert [state for _, state in await _slots(db)] == []
    clock.advance(timedelta(hours=12, seconds=1))
    await maintenance.tick()
    assert await _slots(db) == [("2026-11-23T09:00[Europe/Berlin]", "fired")]


async def test_a_clock_that_is_a_little_ahead_on_another_machine_fires_no_slot_twice(
    db: Database, clock: Clock, registry: Registry
) -> None:
    maintenance = JobMaintenance(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(hours=12, seconds=1))
    await maintenance.tick()
    clock.advance(timedelta(seconds=-30))
    async with db.write() as tx:
        assert await schedule_store.refresh_schedules(tx) == 0
