"""Every rule's alert is raised by a real fault and cleared after it.

The spans of the rules are shortened over HTTP, as an operator changes them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.fault.staged_faults import Places, fill
from tests.support.condition import PATIENCE_SECONDS, until_async
from tests.support.partner_school import Sandbox, running_sandbox
from tests.support.staged_server import StagedServer
from tests.support.tls_server import tls_server

from homeroom import machine
from homeroom.bootstrap.alert_readings import AlertReadings
from homeroom.bootstrap.application import Application, open_application
from homeroom.db.migrate import head_revision
from homeroom.instant import DAY
from homeroom.jobs.schedule_store import SlotRecord
from homeroom.jobs.store import schedule_slot_table
from homeroom.monitoring.alert_rules import DEFAULT_RULES, RuleChange
from homeroom.monitoring.health import Health
from homeroom.monitoring.history import HistoryRecorder
from homeroom.monitoring.monitor import Monitor
from homeroom.partner import certificate_expiry
from homeroom.partner.gate import PartnerGate
from homeroom.sandbox.fault import FaultMode
from homeroom.settings import load

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.xdist_group("fault")]
NONE: frozenset[str] = frozenset()
LEARNERS = [f"u-{number}" for number in range(6)]
DISK = "size=96m"
ROOM_BYTES = 6 * 1024**2
"""What is left on the small disk: less than a tenth of it, and enough to store an alert."""
AT_ONCE = {"forSeconds": 0, "clearSeconds": 0}
RULES = [
    *({"kind": kind, **AT_ONCE} for kind in DEFAULT_RULES if kind not in {"queue_size"}),
    {"kind": "queue_size", "threshold": 3, **AT_ONCE},
]
THRESHOLDS = {"queue_age": 1, "worker_down": 1, "owed_steps": 1}


class WatchedServer:
    """A server without a worker of its own, and what alerts it lists."""

    def __init__(self, server: StagedServer, sandbox: Sandbox) -> None:
        self.server, self.sandbox = server, sandbox

    async def open(self) -> set[str]:
        answer = await self.server.client.get("/api/v1/alerts")
        assert answer.status_code == 200, answer.text
        return {f"{each['rule']} {each['subject']}".strip() for each in answer.json()["items"]}

    async def until(
        self, *, raised: set[str] = frozenset(), cleared: set[str] = frozenset()
    ) -> None:
        """Wait until some alerts are open and others are not, by rule and subject."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = await self.open()
            rules = found | {each.split()[0] for each in found}
            if raised <= rules and not cleared & rules:
                return
            assert time.monotonic() < deadline, (found, self.server.text())
            await asyncio.sleep(0.1)

    async def failed_completions(self) -> list[str]:
        """Wait until the HR step of every completion has failed; return their ids."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        query = {"step": "hr", "status": "failed"}
        while True:
            answer = await self.server.client.get("/api/v1/completions", params=query)
            found = [each["id"] for each in answer.json()["items"]]
            if len(found) == len(LEARNERS):
                return found
            assert time.monotonic() < deadline, (found, self.server.text())
            await asyncio.sleep(0.1)

    async def post(self, path: str) -> None:
        answer = await self.server.client.post(path)
        assert answer.status_code == 200, answer.text


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[WatchedServer]:
    logs = tmp_path / "logs"
    logs.mkdir()
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(running_sandbox())
        places = Places(tmp_path, logs, "", 0, stack)
        disk = places.mount("-t", "tmpfs", "-o", DISK, "tmpfs")
        wanted = ("HOMEROOM_HR_URL", "HOMEROOM_WEBHOOK_SECRET")
        settings = {name: sandbox.settings[name] for name in wanted}
        server = places.server(
            disk / "data",
            HOMEROOM_ALERT_INTERVAL="500ms",
            HOMEROOM_JOB_LEASE="3s",
            HOMEROOM_CONCURRENCY=str(len(LEARNERS)),
            HOMEROOM_HR_RETRY_DELAYS=",".join(["1s"] * 9),
            **settings,
        )
        await server.serve("--no-worker")
        rules = [{**rule, "threshold": THRESHOLDS.get(rule["kind"])} | rule for rule in RULES]
        answer = await server.client.put("/api/v1/alert-rules", json={"rules": rules})
        assert answer.status_code == 200, answer.text
        yield WatchedServer(server, sandbox)


async def test_faults_of_a_running_server_raise_alerts_that_clear(watched: WatchedServer) -> None:
    server, sandbox = watched.server, watched.sandbox
    await watched.until(raised={"no_worker"})
    await server.complete_course(LEARNERS)
    await watched.until(raised={"queue_age", "queue_size", "owed_steps hr"})

    await sandbox.fault("hr", "status", status=503)
    worker = await server.work()
    await watched.until(raised={"destination hr"}, cleared={"no_worker", "queue_age", "queue_size"})
    groups = (await server.client.get("/api/v1/alerts")).json()["items"]
    assert {each["group"] for each in groups if each["rule"] == "destination"} == {"partner:hr"}

    os.kill(worker.pid, signal.SIGSTOP)
    await watched.until(raised={"no_worker", "worker_down"})
    os.kill(worker.pid, signal.SIGCONT)
    await watched.until(cleared={"no_worker", "worker_down"})

    await sandbox.client.delete(f"{sandbox.url}/control/faults")
    await sandbox.fault("hr", "status", status=422)
    await watched.post("/api/v1/destinations/hr/switch-on")
    await watched.until(raised={"failed_jobs", "failed_steps hr"}, cleared={"destination"})
    failed = await watched.failed_completions()
    await sandbox.client.delete(f"{sandbox.url}/control/faults")
    for id in failed:
        await watched.post(f"/api/v1/completions/{id}/steps/hr/retry")
    await watched.until(cleared={"failed_jobs", "failed_steps", "owed_steps"})

    free = machine.disk_space(server.folder)
    assert free is not None
    ballast = server.folder / "ballast"
    ballast.write_bytes(b"x" * (free.free - ROOM_BYTES))
    await watched.until(raised={"disk_space"})
    ballast.unlink()
    await watched.until(cleared={"disk_space"})


KNOBS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("status", {"status": 401}),
    ("drop", {}),
    ("hang_after_work", {}),
)
"""The faults of a partner; the caller cannot tell ``slow`` from one that hangs, and ``garbage`` is
a 200, which webhooks accept."""


async def test_every_fault_of_a_partner_raises_its_alert_and_its_end_clears_it(
    watched: WatchedServer,
) -> None:
    server, sandbox = watched.server, watched.sandbox
    await server.work()
    for number, (mode, options) in enumerate(KNOBS):
        await sandbox.fault("hr", mode, **options)
        await server.complete_course([f"k{number}-{learner}" for learner in LEARNERS])
        await watched.until(raised={"destination hr", "owed_steps hr"})
        await sandbox.client.delete(f"{sandbox.url}/control/faults")
        await watched.post("/api/v1/destinations/hr/switch-on")
        await watched.until(cleared={"destination", "owed_steps"})
    assert {mode for mode, _ in KNOBS} == set(get_args(FaultMode)) - {"garbage", "slow"}


async def test_a_disk_without_a_byte_left_raises_its_alert_and_stores_it_afterwards(
    watched: WatchedServer,
) -> None:
    server = watched.server
    await watched.until(raised={"no_worker"})
    ballast = fill(server.folder)
    await watched.until(raised={"disk_space"})
    assert (await server.send_events()).json()["code"] == "storage_full"
    assert "alert_not_stored" in server.events()
    [held] = [
        each
        for each in (await server.client.get("/api/v1/alerts")).json()["items"]
        if each["rule"] == "disk_space"
    ]
    ballast.unlink()
    await watched.until(cleared={"disk_space"})
    answer = await server.client.get("/api/v1/alerts", params={"state": "cleared"})
    cleared = {each["id"]: each for each in answer.json()["items"]}
    assert cleared[held["id"]]["since"] == held["since"]
    assert await watched.open() == {"no_worker"}


class Staged:
    """An application whose alerts are evaluated by hand, with what a fault may change."""

    def __init__(self, application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
        self.application, self.db = application, application.db
        self.monkeypatch = monkeypatch
        self.health = Health(application.db, head_revision())
        readings = AlertReadings(application, self.health)
        self.monitor = Monitor(
            application.db,
            readings.process_id,
            readings.host,
            HistoryRecorder(application.metrics),
            application.alerts,
            readings.sources(),
        )

    async def open(self) -> set[str]:
        await self.monitor.tick()
        async with self.db.read() as tx:
            found = await self.application.alerts.list_alerts(tx, "open", None, 100)
        return {alert.rule for alert in found}

    async def change_rule(self, kind: str, **changes: Any) -> None:
        await self.application.alerts.change_rules([RuleChange(kind, **changes)], "test")


@pytest.fixture
async def staged(
    database_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Staged]:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    for name, value in (("ORGANIZATION", "o"), ("TOKEN", "t"), ("URL", "http://127.0.0.1:9")):
        monkeypatch.setenv(f"HOMEROOM_CREDLY_{name}", value)
    monkeypatch.setenv("HOMEROOM_SMTP_URL", "smtp://127.0.0.1:9")
    monkeypatch.setenv("HOMEROOM_MAIL_FROM", "homeroom@example.org")
    settings = load(
        data_dir=tmp_path,
        database_url=f"sqlite:///{database_file}",
        credly_token_expires_on=tomorrow,
    )
    async with open_application(settings) as application:
        built = Staged(application, monkeypatch)
        for kind in DEFAULT_RULES:
            await built.change_rule(kind, for_seconds=0, clear_seconds=0, enabled=False)
        yield built


async def mail_refused(here: Staged) -> None:
    async with here.db.write() as tx:
        await PartnerGate(here.db, "mail").open(tx, "refused", "554 relay access denied", 554)


async def mail_accepted(here: Staged) -> None:
    async with here.db.write() as tx:
        await PartnerGate(here.db, "mail").switch_on(tx)


async def memory_used(here: Staged) -> None:
    full = machine.Usage(95, 100)
    here.monkeypatch.setattr(machine, "memory_usage", lambda: full)


async def memory_freed(here: Staged) -> None:
    here.monkeypatch.setattr(machine, "memory_usage", lambda: machine.Usage(10, 100))


async def writer_stuck(here: Staged) -> None:
    (here.application.settings.data_dir / "writer-stuck").touch()


async def writer_well(here: Staged) -> None:
    marker = here.application.settings.data_dir / "writer-stuck"
    past = time.time() - 601
    os.utime(marker, (past, past))


async def slot_missed(here: Staged) -> None:
    async with here.db.write() as tx:
        slot = SlotRecord("reminder.a", "s", tx.now - DAY, "missed", DAY, tx.now, None)
        await tx.insert(schedule_slot_table, [slot])


async def hour_passed(here: Staged) -> None:
    here.db.clock.advance(timedelta(minutes=61))


async def key_about_to_expire(here: Staged) -> None:
    """Nothing has to be done: the settings say that it expires tomorrow."""


async def rule_asks_for_less(here: Staged) -> None:
    await here.change_rule("key_expiry", threshold=0.001)


async def requests_failed(here: Staged) -> None:
    for status in (500, *(200,) * 19):
        here.application.metrics.observe_request("GET", "/x", status, 0.1)
    here.application.metrics.observe_request("GET", "/x", 503, 0.1)
    here.db.clock.advance(timedelta(minutes=1))


async def requests_succeeded(here: Staged) -> None:
    for _ in range(50):
        here.application.metrics.observe_request("GET", "/x", 200, 0.1)
    here.db.clock.advance(timedelta(minutes=1))


async def check_failed(here: Staged) -> None:
    async def probe() -> str | None:
        return "Redis cannot be used, so jobs wait"

    here.health.add("redis", probe)


async def check_passed(here: Staged) -> None:
    async def probe() -> str | None:
        return None

    here.health.add("redis", probe)


Change = Callable[[Staged], Awaitable[None]]


@pytest.mark.parametrize(
    ("kind", "begin", "end"),
    [
        ("mail_server", mail_refused, mail_accepted),
        ("worker_memory", memory_used, memory_freed),
        ("stuck_writer", writer_stuck, writer_well),
        ("missed_schedule", slot_missed, hour_passed),
        ("key_expiry", key_about_to_expire, rule_asks_for_less),
        ("error_rate", requests_failed, requests_succeeded),
        ("health_check", check_failed, check_passed),
    ],
)
async def test_a_fault_raises_the_alert_of_its_rule_and_its_end_clears_it(
    staged: Staged, kind: str, begin: Change, end: Change
) -> None:
    await staged.change_rule(kind, enabled=True)
    await staged.monitor.tick()
    await begin(staged)
    assert await staged.open() == {kind}
    await end(staged)
    assert await staged.open() == set()


async def test_a_certificate_that_ends_soon_raises_an_alert_until_it_is_renewed(
    database_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate_expiry, "READ_EVERY_SECONDS", 0.0)
    async with tls_server(tmp_path, timedelta(days=5)) as partner:
        url = f"https://127.0.0.1:{partner.port}/hr"
        database_url = f"sqlite:///{database_file}"
        settings = load(data_dir=tmp_path, database_url=database_url, hr_url=url)
        async with open_application(settings) as application:
            staged = Staged(application, monkeypatch)
            for kind in DEFAULT_RULES.keys() - {"certificate_expiry"}:
                await staged.change_rule(kind, enabled=False)
            await staged.change_rule("certificate_expiry", clear_seconds=0)

            async def is_open(rules: set[str]) -> bool:
                return await staged.open() == rules

            await until_async(lambda: is_open({"certificate_expiry"}))
            partner.renew(timedelta(days=90))
            await until_async(lambda: is_open(set()))


def test_every_rule_is_tried() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [kind for kind in DEFAULT_RULES if f'"{kind}' not in text] == []
