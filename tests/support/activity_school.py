"""Programmes, facilitators and managers on a clock of their own, run by the real worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TypedDict, Unpack
from zoneinfo import ZoneInfo

from tests.support.kernel import Kernel

from homeroom.activity.activity_log import ActivityLogStatus
from homeroom.activity.api import (
    Activity,
    ActivityLog,
    Exemption,
    Offering,
    Programme,
    enqueue_missed_report,
)
from homeroom.activity.obligation_rules import TargetWeek
from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.instant import from_datetime
from homeroom.jobs import schedule_store
from homeroom.notify import store
from homeroom.notify.api import (
    Channel,
    ChannelSender,
    Delivery,
    DisabledSender,
    MailIdentity,
    MessageTemplates,
    Notification,
    Notifications,
    SmtpSender,
    SmtpServer,
    SmtpSessionOptions,
)
from homeroom.people import api as people
from homeroom.people.api import Person

PUBLIC_URL = "https://homeroom.example.org"
SENDER = MailIdentity("Homeroom <homeroom@example.org>", None, "bounces@example.org")


def local(text: str, zone: str = "Europe/Berlin") -> int:
    """Return a wall time as an instant."""
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)))


def smtp(
    port: int, *, timeout_seconds: float = 2.0, end_timeout_seconds: float = 2.0
) -> SmtpSender:
    """Return a sender of mails to a server on loopback."""
    return SmtpSender(
        SmtpServer("127.0.0.1", port, "none"),
        SENDER,
        SmtpSessionOptions(
            timeout_seconds=timeout_seconds, end_timeout_seconds=end_timeout_seconds
        ),
    )


class PersonFields(TypedDict, total=False):
    """The fields of a person that a test may choose."""

    email: str | None
    given_name: str
    time_zone: str | None
    locale: str | None
    roles: tuple[str, ...]


class ProgrammeFields(TypedDict, total=False):
    """The fields of a programme that a test may choose."""

    title: str
    time_zone: str
    managers: tuple[str, ...]
    grace_minutes: int
    target_week: TargetWeek
    per_user_time: bool


@dataclass
class ActivitySchool:
    """The packages activity and notify on one database, with a kernel."""

    db: SqliteDatabase
    notifications: Notifications
    activity: Activity
    kernel: Kernel
    clock: Clock
    counted: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def move_to(self, instant: int) -> None:
        self.clock.advance(timedelta(microseconds=instant - self.clock.now()))

    async def person(self, id: str, **given: Unpack[PersonFields]) -> None:
        person = Person(id, f"{id}@example.org", id.title(), "Example")
        async with self.db.write() as tx:
            await people.put(tx, replace(person, **given))

    async def programme(self, id: str = "lab", **given: Unpack[ProgrammeFields]) -> Programme:
        usual = Programme(id, f"The {id}", "Europe/Berlin", managers=("mara",))
        programme = replace(usual, **given)
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

    async def exempt(
        self,
        programme: str,
        starts: date,
        ends: date,
        *,
        reason: str = "leave",
        user_id: str | None = None,
    ) -> str:
        exemption = Exemption("", starts, ends, reason, user_id)
        async with self.db.write() as tx:
            made = await self.activity.programmes.add_exemption(
                tx, programme, exemption, None, "test"
            )
        return made.id

    async def log(
        self, offering: str, week: str, status: ActivityLogStatus = "submitted"
    ) -> ActivityLog:
        async with self.db.write() as tx:
            return await self.activity.logs.write(tx, offering, week, status, {})

    async def run_now(self, schedule: str) -> None:
        async with self.db.write() as tx:
            await schedule_store.run_schedule_now(tx, self.kernel.registry, schedule)

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
            return await store.list_deliveries(
                tx, status=None, channel=channel, user_id=None, before_id=None, count=10_000
            )

    async def statuses(self, channel: str = "email") -> dict[str, str]:
        """Return by person where the deliveries of a channel are."""
        return {
            note.user_id: delivery.status.value for delivery, note in await self.deliveries(channel)
        }

    async def work(self, *, skip_waits: bool = False) -> None:
        """Fire what is due and run jobs until none can run; with ``skip_waits``, none is left."""

        async def skip_to_next_job() -> None:
            self.move_to(await self._next_job())

        await self.kernel.maintenance.tick()
        await self.kernel.run_jobs(skip_to_next_job if skip_waits else None)

    async def _next_job(self) -> int:
        async with self.db.read() as tx:
            row = await tx.fetch_one("SELECT MIN(run_at) FROM job WHERE state = 'delayed'")
        assert row is not None
        return int(row[0]) + 1


def build(
    db: SqliteDatabase,
    clock: Clock,
    channel_senders: Mapping[Channel, ChannelSender] | None = None,
    chunk: int = 200,
    *,
    records_uptime: bool = False,
    templates: MessageTemplates | None = None,
) -> ActivitySchool:
    """Build the packages activity and notify on a database.

    With ``records_uptime`` a leap of the clock is a downtime, as it is for a server.
    """
    counted: dict[tuple[str, str, str], int] = {}

    def observe(type: str, channel: str, status: str, count: int = 1) -> None:
        counted[type, channel, status] = counted.get((type, channel, status), 0) + count

    every: dict[Channel, ChannelSender] = {
        channel: DisabledSender("not set up")
        for channel in Channel
        if channel is not Channel.IN_APP
    }
    notifications = Notifications(
        db,
        channel_senders=every | dict(channel_senders or {}),
        templates=templates or MessageTemplates(),
        public_url=PUBLIC_URL,
        text_retention=timedelta(days=180),
        observe=observe,
    )
    activity = Activity(db, notifications)
    activity.fan_out._chunk = chunk
    kernel = Kernel(db, missed=enqueue_missed_report, records_uptime=records_uptime)
    notifications.register(kernel.registry)
    activity.register(kernel.registry)
    return ActivitySchool(db, notifications, activity, kernel, clock, counted)


def at(clock: Clock, instant: int) -> None:
    """Set a clock."""
    clock.advance(timedelta(microseconds=instant - clock.now()))
