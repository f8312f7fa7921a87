"""Schedules in the database: each slot once, late ones caught up or recorded as missed."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.servers.database import database_at

from homeroom.clock import Clock, from_datetime
from homeroom.db.database import Database
from homeroom.errors import Conflict, Invalid
from homeroom.jobs import schedule_store
from homeroom.jobs.args import JobArgs, SlotArgs
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.handler import Registry
from homeroom.jobs.outcome import Done
from homeroom.jobs.upkeep import Upkeep

pytestmark = pytest.mark.anyio


class Remind(JobArgs, frozen=True, kw_only=True):
    """A job that a schedule adds."""

    kind = "schedule.remind"
    queue = "schedule"
    week: str = ""


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
        return [row[0] for row in await tx.fetch("SELECT id FROM job ORDER BY seq")]


async def test_a_slot_adds_its_job_once(db: Database, clock: Clock, registry: Registry) -> None:
    upkeep = Upkeep(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    await upkeep.tick()
    assert await _jobs(db) == []
    clock.advance(timedelta(hours=12, seconds=1))
    await upkeep.tick()
    await upkeep.tick()
    assert await _slots(db) == [("2026-11-23T09:00[Europe/Berlin]", "fired")]
    assert await _jobs(db) == ["schedule.weekly.2026-11-23T09%3A00[Europe%2FBerlin]"]


async def test_twenty_schedulers_fire_one_slot_once(
    db: Database, database: Path | str, clock: Clock, registry: Registry
) -> None:
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(hours=12, seconds=1))
    others = [database_at(database, clock) for _ in range(20)]
    for other in others:
        await other.open()
    try:
        fired = await asyncio.gather(
            *(Upkeep(other, registry, SqlEngine(), clock).fire_schedules() for other in others)
        )
    finally:
        for other in others:
            await other.close()
    assert sum(fired) == 1
    assert len(await _jobs(db)) == 1


async def test_even_a_scheduler_that_reads_an_old_row_cannot_fire_a_slot_again(
    db: Database, clock: Clock, registry: Registry
) -> None:
    upkeep = Upkeep(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    async with db.read() as tx:
        old = await schedule_store.get_schedule(tx, "weekly")
    clock.advance(timedelta(hours=12, seconds=1))
    assert await upkeep.fire_schedules() == 1
    async with db.write() as tx:
        await tx.execute(
            "UPDATE schedule SET last_slot_at = ?, next_slot_at = ?",
            (old.last_slot_at, old.next_slot_at),
        )
    assert await upkeep.fire_schedules() == 0
    assert len(await _jobs(db)) == 1


async def test_slots_of_a_downtime_are_caught_up_within_the_window_and_else_recorded(
    db: Database, clock: Clock, registry: Registry
) -> None:
    await _declare(db, "0 * * * *", catch_up=timedelta(hours=2))
    clock.advance(timedelta(hours=5, minutes=30))
    await Upkeep(db, registry, SqlEngine(), clock).tick()
    assert await _slots(db) == [
        ("2026-11-22T21:00Z", "missed"),
        ("2026-11-22T22:00Z", "missed"),
        ("2026-11-22T23:00Z", "missed"),
        ("2026-11-23T00:00Z", "fired"),
        ("2026-11-23T01:00Z", "fired"),
    ]
    assert len(await _jobs(db)) == 2


async def test_a_long_downtime_is_worked_off_in_bounded_steps(
    db: Database, clock: Clock, registry: Registry
) -> None:
    upkeep = Upkeep(db, registry, SqlEngine(), clock)
    await _declare(db, "* * * * *", catch_up=timedelta(minutes=1))
    clock.advance(timedelta(minutes=700, seconds=30))
    await upkeep.fire_schedules()
    assert len(await _slots(db)) == 500
    await upkeep.fire_schedules()
    states = [state for _, state in await _slots(db)]
    assert (len(states), states.count("fired")) == (700, 1)


async def test_a_schedule_declared_again_goes_on_and_a_new_cron_begins_now(
    db: Database, clock: Clock, registry: Registry
) -> None:
    upkeep = Upkeep(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(hours=12, seconds=1))
    await _declare(db, "0 9 * * 1")
    assert await upkeep.fire_schedules() == 1
    await _declare(db, "0 7 * * 1")  # 07:00 of today has passed
    assert await upkeep.fire_schedules() == 0


async def test_a_paused_schedule_leaves_out_the_slots_of_its_pause(
    db: Database, clock: Clock, registry: Registry
) -> None:
    upkeep = Upkeep(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    async with db.write() as tx:
        await schedule_store.pause_schedule(tx, "weekly")
    clock.advance(timedelta(hours=12, seconds=1))
    await upkeep.tick()
    async with db.write() as tx:
        await schedule_store.resume_schedule(tx, "weekly")
    await upkeep.tick()
    assert await _slots(db) == []
    clock.advance(timedelta(days=7))
    assert await upkeep.fire_schedules() == 1


async def test_a_schedule_of_a_kind_that_is_not_known_here_is_left_to_others(
    db: Database, clock: Clock
) -> None:
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(hours=12, seconds=1))
    assert await Upkeep(db, Registry(), SqlEngine(), clock).fire_schedules() == 0
    assert await _slots(db) == []


async def test_a_cron_that_cannot_be_read_is_refused(db: Database) -> None:
    with pytest.raises(Invalid, match="weekly"):
        await _declare(db, "0 9 * *")


async def test_old_slots_and_the_ids_of_their_jobs_are_forgotten(
    db: Database, clock: Clock, registry: Registry
) -> None:
    upkeep = Upkeep(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(hours=12, seconds=1))
    await upkeep.tick()
    async with db.write() as tx:
        await tx.execute("UPDATE job SET state = 'completed', finished_at = ?", (tx.now,))
        await schedule_store.pause_schedule(tx, "weekly")
    clock.advance(timedelta(days=91))
    await upkeep.tick()
    assert await _slots(db) == []
    assert await _jobs(db) == []


class RemindSlot(SlotArgs, frozen=True, kw_only=True):
    """A job that wants to know for which slot it runs."""

    kind = "schedule.remind_slot"
    queue = "schedule"


@pytest.fixture
def told(registry: Registry) -> Registry:
    async def run(ctx: Any, args: Any) -> Any:
        return Done()

    async def preview(tx: Any, args: RemindSlot) -> Any:
        return {"slot": args.slot, "late": args.late, "byHand": args.by_hand}

    registry.add(RemindSlot, run, preview=preview)
    return registry


async def _declare_slots(db: Database, name: str = "weekly") -> None:
    async with db.write() as tx:
        await schedule_store.declare_schedule(
            tx, name, "0 9 * * 1", "Europe/Berlin", RemindSlot(), keep_edits=True
        )


async def _payloads(db: Database) -> list[dict[str, Any]]:
    async with db.read() as tx:
        return [
            json.loads(row[0]) for row in await tx.fetch("SELECT payload FROM job ORDER BY seq")
        ]


async def test_a_job_is_told_for_which_slot_it_runs_and_whether_that_is_late(
    db: Database, clock: Clock, told: Registry
) -> None:
    await _declare_slots(db)
    clock.advance(timedelta(hours=12, minutes=30))
    await Upkeep(db, told, SqlEngine(), clock).tick()
    [payload] = await _payloads(db)
    assert payload["slot"] == "2026-11-23T09:00[Europe/Berlin]"
    assert (payload["late"], payload["byHand"]) == (True, False)


async def test_a_run_by_hand_takes_the_latest_slot_however_old_and_keeps_one_row_a_slot(
    db: Database, clock: Clock, told: Registry
) -> None:
    await _declare_slots(db)
    clock.advance(timedelta(days=3))
    upkeep = Upkeep(db, told, SqlEngine(), clock)
    await upkeep.tick()
    assert await _slots(db) == [("2026-11-23T09:00[Europe/Berlin]", "missed")]
    for _ in range(2):
        async with db.write() as tx:
            await schedule_store.run_now(tx, told, "weekly")
    await upkeep.tick()
    assert await _slots(db) == [("2026-11-23T09:00[Europe/Berlin]", "fired")]
    assert [payload["byHand"] for payload in await _payloads(db)] == [True, True]


async def test_a_dry_run_says_what_a_run_would_do_and_changes_nothing(
    db: Database, told: Registry
) -> None:
    await _declare_slots(db)
    async with db.read() as tx:
        slot, found = await schedule_store.preview(tx, told, "weekly")
    assert slot.name == "2026-11-16T09:00[Europe/Berlin]"
    assert found == {"slot": slot.name, "late": True, "byHand": True}
    assert await _slots(db) == []
    await _declare(db, "0 9 * * 1")
    async with db.read() as tx:
        with pytest.raises(Conflict, match="cannot say beforehand"):
            await schedule_store.preview(tx, told, "weekly")


async def test_a_change_by_hand_outlives_the_next_declaration(
    db: Database, clock: Clock, told: Registry
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


async def test_whoever_wants_to_hear_is_told_of_a_missed_slot_in_its_commit(
    db: Database, clock: Clock, told: Registry
) -> None:
    heard: list[str] = []
    seen: list[tuple[str, str]] = []

    async def missed(tx: Any, slot: schedule_store.FiredSlot) -> None:
        heard.append(slot.slot)

    await _declare_slots(db)
    clock.advance(timedelta(days=3))
    upkeep = Upkeep(
        db,
        told,
        SqlEngine(),
        clock,
        missed=missed,
        observe=lambda name, outcome: seen.append((name, outcome)),
    )
    await upkeep.tick()
    await upkeep.tick()
    assert heard == ["2026-11-23T09:00[Europe/Berlin]"]
    assert seen == [("weekly", "missed")]


async def test_the_longest_names_make_jobs_too(db: Database, clock: Clock, told: Registry) -> None:
    await _declare_slots(db, "w" * 128)
    clock.advance(timedelta(hours=12, seconds=1))
    await Upkeep(db, told, SqlEngine(), clock).tick()
    [job_id] = await _jobs(db)
    assert len(job_id) <= 128


async def test_a_start_works_out_anew_when_schedules_fire(db: Database, told: Registry) -> None:
    await _declare_slots(db)
    async with db.write() as tx:
        right = (await schedule_store.get_schedule(tx, "weekly")).next_slot_at
        await tx.execute("UPDATE schedule SET next_slot_at = next_slot_at + 3600000000")
        assert await schedule_store.refresh_schedules(tx) == 1
        assert await schedule_store.refresh_schedules(tx) == 0
        assert (await schedule_store.get_schedule(tx, "weekly")).next_slot_at == right


async def test_a_clock_that_was_ahead_silences_no_schedule(
    db: Database, clock: Clock, registry: Registry
) -> None:
    upkeep = Upkeep(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(days=30))
    await upkeep.tick()
    fired = [slot for slot, state in await _slots(db) if state == "fired"]
    clock.advance(timedelta(days=-30))
    async with db.write() as tx:
        await schedule_store.refresh_schedules(tx)
    async with db.read() as tx:
        upcoming = (await schedule_store.get_schedule(tx, "weekly")).next_slot_at
    assert upcoming == from_datetime(datetime(2026, 11, 23, 8, 0, tzinfo=UTC))
    assert [slot for slot, _ in await _slots(db)] == fired
    clock.advance(timedelta(hours=12, seconds=1))
    await upkeep.tick()
    assert ("2026-11-23T09:00[Europe/Berlin]", "fired") in await _slots(db)


async def test_a_clock_that_is_a_little_ahead_elsewhere_fires_nothing_twice(
    db: Database, clock: Clock, registry: Registry
) -> None:
    upkeep = Upkeep(db, registry, SqlEngine(), clock)
    await _declare(db, "0 9 * * 1")
    clock.advance(timedelta(hours=12, seconds=1))
    await upkeep.tick()
    clock.advance(timedelta(seconds=-30))
    async with db.write() as tx:
        assert await schedule_store.refresh_schedules(tx) == 0
