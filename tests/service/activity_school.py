"""Programmes, facilitators and managers on a clock of their own, run by the real worker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from homeroom.activity.api import Activity, Exemption, Log, Offering, Programme
from homeroom.clock import Clock, from_datetime
from homeroom.db.sqlite import SqliteDatabase
from homeroom.jobs import schedule_store
from homeroom.jobs.engines.sql import SqlEngine
from homeroom.jobs.handler import Registry
from homeroom.jobs.upkeep import Upkeep
from homeroom.jobs.worker import Worker
from homeroom.notify import store
from homeroom.notify.api import (
    Carrier,
    Channel,
    Delivery,
    NoCarrier,
    Notification,
    Notifications,
    Sender,
    Server,
    SmtpCarrier,
    Templates,
)
from homeroom.people import api as people
from homeroom.people.api import Person

PATIENCE_SECONDS = 30.0
PUBLIC_URL = "https://homeroom.example.org"
SENDER = Sender("Homeroom <homeroom@example.org>", None, "bounces@example.org")


def local(text: str, zone: str = "Europe/Berlin") -> int:
    """Return a wall time as an instant."""
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)))


def smtp(port: int, **options: Any) -> SmtpCarrier:
    options = {"timeout_seconds": 2.0, "end_timeout_seconds": 2.0, **options}
    return SmtpCarrier(Server("127.0.0.1", port, "none"), SENDER, **options)


@dataclass
class ActivitySchool:
    """What wiring would build, around one database."""

    db: SqliteDatabase
    notifications: Notifications
    activity: Activity
    registry: Registry
    upkeep: Upkeep
    clock: Clock
    counted: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def move_to(self, instant: int) -> None:
        self.clock.advance(timedelta(microseconds=instant - self.clock.now()))

    async def person(self, id: str, **given: Any) -> None:
        fields: dict[str, Any] = {
            "email": f"{id}@example.org",
            "given_name": id.title(),
            "family_name": "Example",
            **given,
        }
        async with self.db.write() as tx:
            await people.put(tx, Person(id, **fields))

    async def programme(self, id: str = "lab", **given: Any) -> Programme:
        fields: dict[str, Any] = {
            "title": f"The {id}",
            "time_zone": "Europe/Berlin",
            "managers": ("mara",),
            **given,
        }
        programme = Programme(id=id, **fields)
        async with self.db.write() as tx:
            await self.activity.programmes.put(tx, programme, "test")
        return programme

    async def offering(
        self,
        id: str,
        facilitator: str,
        programme: str = "lab",
        starts: date = date(2026, 1, 1),
        ends: date = date(2027, 12, 31),
    ) -> None:
        offering = Offering(id, programme, f"Course {id}", facilitator, starts, ends)
        async with self.db.write() as tx:
            await self.activity.programmes.put_offering(tx, offering, "test")

    async def exempt(self, programme: str, starts: date, ends: date, **given: Any) -> str:
        rule = Exemption("", starts, ends, given.pop("reason", "leave"), **given)
        async with self.db.write() as tx:
            made = await self.activity.programmes.exempt(tx, programme, rule, None, "test")
        return made.rule.id

    async def log(self, offering: str, week: str, status: Any = "submitted") -> Log:
        async with self.db.write() as tx:
            return await self.activity.logs.write(tx, offering, week, status, {})

    async def run_now(self, schedule: str) -> None:
        async with self.db.write() as tx:
            await schedule_store.run_now(tx, self.registry, schedule)

    async def obligations(self) -> list[tuple[str, str, str]]:
        """Return what is owed: offering, week and state."""
        async with self.db.read() as tx:
            return await tx.fetch(
                "SELECT offering_id, week_key, state FROM log_obligation ORDER BY 1, 2"
            )

    async def keys(self) -> list[str]:
        """Return the keys of all messages."""
        async with self.db.read() as tx:
            rows = await tx.fetch("SELECT dedupe_key FROM notification ORDER BY dedupe_key")
        return [row[0] for row in rows]

    async def deliveries(self, channel: str = "email") -> list[tuple[Delivery, Notification]]:
        async with self.db.read() as tx:
            return await store.newest_deliveries(
                tx, status=None, channel=channel, user_id=None, before_id=None, count=10_000
            )

    async def statuses(self, channel: str = "email") -> dict[str, str]:
        """Return by person where the deliveries of a channel are."""
        return {
            note.user_id: delivery.status.value for delivery, note in await self.deliveries(channel)
        }

    async def open_jobs(self) -> dict[str, int]:
        async with self.db.read() as tx:
            rows = await tx.fetch(
                "SELECT state, COUNT(*) FROM job WHERE state NOT IN ('completed', 'failed')"
                " GROUP BY state"
            )
        return dict(rows)

    async def work(self, *, skip_waits: bool = False, worker: Worker | None = None) -> None:
        """Fire what is due and run jobs until none can run; with ``skip_waits``, none is left."""
        await self.upkeep.tick()
        worker = worker or Worker(self.db, self.registry, SqlEngine(), poll=timedelta(seconds=0.05))
        committed = asyncio.Event()
        forget = self.db.subscribe(lambda topics: committed.set())
        task = asyncio.create_task(worker.run())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    committed.clear()
                    left = await self.open_jobs()
                    if not left or (set(left) == {"delayed"} and not skip_waits):
                        break
                    if set(left) == {"delayed"}:
                        self.move_to(await self._next_job())
                        await self.upkeep.tick()
                    else:
                        await committed.wait()
        finally:
            forget()
            worker.stop()
            await task

    async def _next_job(self) -> int:
        async with self.db.read() as tx:
            row = await tx.fetch_one("SELECT MIN(run_at) FROM job WHERE state = 'delayed'")
        assert row is not None
        return int(row[0]) + 1


def build(
    db: SqliteDatabase,
    clock: Clock,
    carriers: Mapping[Channel, Carrier] | None = None,
    chunk: int = 200,
) -> ActivitySchool:
    """Build the two rooms on a database."""
    counted: dict[tuple[str, str, str], int] = {}

    def observe(type: str, channel: str, status: str, count: int = 1) -> None:
        counted[type, channel, status] = counted.get((type, channel, status), 0) + count

    every: dict[Channel, Carrier] = {
        channel: NoCarrier("not set up") for channel in Channel if channel is not Channel.IN_APP
    }
    notifications = Notifications(
        db,
        carriers=every | dict(carriers or {}),
        templates=Templates(),
        public_url=PUBLIC_URL,
        observe=observe,
    )
    activity = Activity(db, notifications)
    activity.fan_out._chunk = chunk
    registry = Registry()
    notifications.register(registry)
    activity.register(registry)
    upkeep = Upkeep(db, registry, SqlEngine(), clock, missed=activity.fan_out.missed)
    return ActivitySchool(db, notifications, activity, registry, upkeep, clock, counted)


def at(clock: Clock, instant: int) -> None:
    """Set a clock."""
    clock.advance(timedelta(microseconds=instant - clock.now()))
