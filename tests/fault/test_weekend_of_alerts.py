"""A weekend's outage is one message to each operator: the real engine, monitor and mail server.

Only the clock is moved, by less than the gap after which a downtime is assumed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.condition import PATIENCE_SECONDS
from tests.support.partner_school import COMPLETED_AT, COURSE, Sandbox, running_sandbox
from tests.support.proxy import Proxy, proxy_to

from homeroom.bootstrap.alert_readings import AlertReadings
from homeroom.bootstrap.application import Application, open_application
from homeroom.bootstrap.services import start_worker_services
from homeroom.completion.api import ChapterRecord, NewCompletion
from homeroom.db.migrate import head_revision
from homeroom.jobs.engine import SqlEngine
from homeroom.monitoring.health import Health
from homeroom.monitoring.history import HistoryRecorder
from homeroom.monitoring.monitor import Monitor
from homeroom.partner.gate import PartnerGate
from homeroom.settings import load

pytestmark = [pytest.mark.anyio, pytest.mark.fault]
OPERATORS = ("friday@example.org", "monday@example.org")
STEP = timedelta(minutes=6)
WEEKEND = timedelta(hours=62)
"""Friday 18:00 to Monday 08:00."""
NIGHT = timedelta(hours=14)
AFTERWARDS = timedelta(hours=2)


class School:
    """An application with a monitor that the test drives, a worker, and a sandbox."""

    def __init__(self, application: Application, sandbox: Sandbox, mail: Proxy) -> None:
        self.application, self.sandbox, self.db = application, sandbox, application.db
        self.mail = mail
        readings = AlertReadings(application, Health(application.db, head_revision()))
        self.monitor = Monitor(
            application.db,
            readings.process_id,
            readings.host,
            HistoryRecorder(application.metrics),
            application.alerts,
            readings.sources(),
        )
        self.has_worker = False
        self.rules: set[str] = set()
        """All rules of which an alert was open at some time."""

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        services = await start_worker_services(self.application, SqlEngine())
        tasks = [asyncio.create_task(service.run()) for service in services]
        self.has_worker = True
        try:
            yield
        finally:
            self.has_worker = False
            for service in services:
                service.stop()
            await asyncio.gather(*tasks)

    async def complete(self, learners: int) -> None:
        async with self.db.write() as tx:
            draft = await self.application.catalogue.publish(tx, "data", COURSE)
            chapters = (ChapterRecord("c1", 10_000, 5_400, True),)
            crossings = [
                NewCompletion(f"u-{n}", draft.course, 1, COMPLETED_AT, 8_750, 5_400, chapters)
                for n in range(learners)
            ]
            await self.application.completions.record(tx, crossings)

    async def pass_time(self, span: timedelta) -> None:
        """Let time pass in steps; the worker is at rest at each, as its jobs take no time."""
        for number in range(span // STEP):
            await self._rest()
            self.db.clock.advance(STEP)
            if self.has_worker:  # the beats of the time that was skipped
                async with self.db.write() as tx:
                    await tx.execute("UPDATE worker SET heartbeat_at = ?", (tx.now,))
            await self.monitor.tick()
            if number % 10 == 0:
                self.rules |= await self.open_rules()

    async def pass_until_over(self) -> None:
        """Let time pass until no alert is open and all mails are sent."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while await self.open_rules() or len(await self.mails()) < len(OPERATORS):
            await self.pass_time(STEP)
            assert time.monotonic() < deadline, (
                await self.open_rules(),
                await self.mails(),
                await self._deliveries(),
            )

    async def _rest(self) -> None:
        query = "SELECT COUNT(*) FROM job WHERE state = 'active'"
        if self.has_worker:
            query += " OR (state = 'waiting' AND run_at <= ? AND queue = 'manager-alerts')"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            async with self.db.read() as tx:
                [(count,)] = await tx.fetch(query, (tx.now,) if self.has_worker else ())
            if not count:
                return
            assert time.monotonic() < deadline, "the worker does not come to rest"
            await asyncio.sleep(0.02)

    async def open_rules(self) -> set[str]:
        async with self.db.read() as tx:
            found = await self.application.alerts.list_alerts(tx, "open", None, 100)
        return {alert.rule for alert in found}

    async def messages(self) -> list[str]:
        async with self.db.read() as tx:
            rows = await tx.fetch("SELECT user_id FROM notification ORDER BY user_id")
        return [user_id for (user_id,) in rows]

    async def _deliveries(self) -> list[tuple[object, ...]]:
        async with self.db.read() as tx:
            return await tx.fetch("SELECT status, address FROM delivery WHERE channel = 'email'")

    async def mails(self) -> list[str]:
        items = (await self.sandbox.get("mail"))["items"]
        return sorted(address for mail in items for address in mail["recipients"])


@pytest.fixture
async def school(
    database_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[School]:
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_sandbox())
        mail = await stack.enter_async_context(proxy_to(sandbox.mail_port, Proxy))
        for name, value in {
            "HR_URL": sandbox.settings["HOMEROOM_HR_URL"],
            "WEBHOOK_SECRET": sandbox.settings["HOMEROOM_WEBHOOK_SECRET"],
            "SMTP_URL": f"smtp://127.0.0.1:{mail.port}?tls=none",
            "MAIL_FROM": "homeroom@example.org",
            "OPERATORS": ",".join(OPERATORS),
        }.items():
            monkeypatch.setenv(f"HOMEROOM_{name}", value)
        settings = load(data_dir=tmp_path, database_url=f"sqlite:///{database_file}")
        application = await stack.enter_async_context(open_application(settings))
        yield School(application, sandbox, mail)


async def partner_fails(school: School) -> None:
    await school.sandbox.fault("hr", "status", status=503)


async def mail_server_is_away(school: School) -> None:
    """A mail before has found it out; the probes go on without success."""
    school.mail.cut()
    async with school.db.write() as tx:
        await PartnerGate(school.db, "mail").open(tx, "away", "connection refused", None)


async def nothing_fails(school: School) -> None:
    """The worker is what is missing."""


async def end_faults(school: School) -> None:
    await school.sandbox.client.delete(f"{school.sandbox.url}/control/faults")
    school.mail.restore()


@dataclass(frozen=True)
class Outage:
    """An outage, the rules that it is about, and whether mails go out during it."""

    begin: Callable[[School], Awaitable[None]]
    rules: frozenset[str]
    span: timedelta
    has_worker: bool = True
    sends_mails: bool = False


OUTAGES = {
    "partner": Outage(
        partner_fails, frozenset({"destination", "owed_steps"}), WEEKEND, sends_mails=True
    ),
    "mail server": Outage(mail_server_is_away, frozenset({"mail_server"}), NIGHT),
    "worker": Outage(
        nothing_fails,
        frozenset({"no_worker", "queue_age", "owed_steps"}),
        NIGHT,
        has_worker=False,
    ),
}


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=[name[:4] for name in OUTAGES])
async def test_an_outage_is_one_message_to_each_operator(school: School, outage: Outage) -> None:
    await school.monitor.tick()
    async with AsyncExitStack() as before:
        if outage.has_worker:
            await before.enter_async_context(school.worker())
        await outage.begin(school)
        await school.complete(6)
        await school.pass_time(outage.span)
        assert await school.messages() == list(OPERATORS), school.rules
        assert await school.mails() == (list(OPERATORS) if outage.sends_mails else [])
    await end_faults(school)
    async with school.worker():
        await school.pass_until_over()
        await school.pass_time(AFTERWARDS)
        assert await school.messages() == list(OPERATORS), school.rules
        assert await school.mails() == list(OPERATORS)
    assert outage.rules <= school.rules
