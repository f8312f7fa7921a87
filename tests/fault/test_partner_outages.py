"""Partners that are away or refuse the key, and come back: nothing is lost, all is sent once.

The clock is moved by the second, so that 90 s and two days take a few seconds. The partners are
the sandbox, over real sockets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import structlog
from tests.support.effort import EFFORT
from tests.support.kernel import ENGINES, POLL, Setup
from tests.support.partner_school import Sandbox, School, running_sandbox, school
from tests.support.proxy import Proxy, proxy_to

from homeroom.clock import Clock
from homeroom.completion.completion import StepState
from homeroom.dispatch.cloud_event import COURSE_COMPLETED
from homeroom.dispatch.message import MessageKey
from homeroom.instant import SECOND, to_microseconds
from homeroom.jobs.held_jobs import count_held
from homeroom.partner import store as partner_store
from homeroom.partner.breaker import Breaker
from homeroom.partner.gate import PartnerGate

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.xdist_group("fault")]
PATIENCE = timedelta(seconds=20)  # a busy machine is no outage
SHORT_PATIENCE_SECONDS = 0.2
STEPS = ("credential", "analytics", "hr")
OUTAGE_ENGINES = ("sqlite", "postgresql", "postgresql+bullmq")
FAULTS = ("status", "refused", "silent")
"""A third of an outage each: an error status, no connection, and no answer in time."""
MOMENTS = 10
"""Moments of 9 s."""
A_MOMENT = 2 * EFFORT**2
"""Completions of a moment: with all effort they are 500 in an outage."""


@dataclass(frozen=True)
class Away:
    """What a partner answers while it is away, and the steps that wait for it."""

    status: int
    steps: frozenset[str]
    after_work: bool = False


PARTNERS = {
    "credly": Away(503, frozenset({"credential", "hr"})),
    "directory": Away(500, frozenset({"credential", "hr"})),
    "assessment": Away(502, frozenset({"credential", "hr"})),
    "analytics": Away(429, frozenset({"analytics"})),
    "hr": Away(503, frozenset({"hr"}), after_work=True),
}


@pytest.fixture(params=OUTAGE_ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    if "bullmq" in request.param:
        request.getfixturevalue("redis_server")
    return str(request.param)


@pytest.fixture
def engine_setup(engine_name: str, request: pytest.FixtureRequest) -> tuple[Setup, Path | str]:
    fixture, setup = ENGINES[engine_name]
    return setup, request.getfixturevalue(fixture)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox() as running:
        yield running


class StandingClock(Clock):
    """A clock that only the test moves, so that a slow machine takes no longer by it."""

    def __init__(self) -> None:
        super().__init__()
        self._at = super().now()

    def now(self) -> int:
        self._at += 1
        return self._at

    def advance(self, by: timedelta) -> None:
        self._at += to_microseconds(by)


@pytest.fixture
def clock() -> Clock:
    return StandingClock()


class Outage:
    """A school whose clock goes by the second while its jobs run."""

    def __init__(self, here: School, engine: str, proxies: dict[str, Proxy]) -> None:
        self.here, self.db, self.engine = here, here.db, engine
        self.proxies = proxies
        self.course: Any = None

    async def complete(self, count: int, prefix: str = "u") -> None:
        self.course = self.course or await self.here.publish()
        for number in range(count):
            await self.here.complete(self.course, f"{prefix}{number}")

    async def pass_time(self, span: timedelta) -> None:
        """Move the clock; run maintenance and all jobs that may run then."""
        self.db.clock.advance(span)
        await self.here.kernel.maintenance.tick()

        async def is_idle() -> bool:
            async with self.db.read() as tx:
                rows = await tx.fetch("SELECT 1 FROM job WHERE state IN ('waiting', 'active')")
            return not rows

        await self.here.kernel.wait_until(is_idle)

    async def breaker(self, name: str) -> Breaker:
        async with self.db.read() as tx:
            return await partner_store.get(tx, name)

    async def begin_fault(self, name: str, fault: str) -> None:
        """Let a partner be away in one of ``FAULTS``, and in that way alone."""
        await self.heal(name)
        if fault == "status":
            away = PARTNERS[name]
            await self.here.sandbox.fault(
                name, "status", status=away.status, afterWork=away.after_work
            )
        elif fault == "refused":
            self.proxies[name].cut()
        else:
            self.here.partners[name].timeout_seconds = SHORT_PATIENCE_SECONDS
            self.proxies[name].freeze()

    async def heal(self, name: str) -> None:
        await self.here.sandbox.client.delete(f"{self.here.sandbox.url}/control/faults")
        self.proxies[name].cut()  # what it got while it was silent is never read
        self.proxies[name].restore()
        self.here.partners[name].timeout_seconds = PATIENCE.total_seconds()

    async def steps(self) -> list[StepState]:
        async with self.db.read() as tx:
            ids = [id for (id,) in await tx.fetch("SELECT id FROM completion")]
            by_id = await self.here.completions.list_steps(tx, ids)
        return [step for steps in by_id.values() for step in steps]

    async def unfinished(self) -> int:
        async with self.db.read() as tx:
            [(count,)] = await tx.fetch(
                "SELECT COUNT(*) FROM completion_step WHERE status <> 'completed'"
            )
        return int(count)

    async def finish(self, name: str) -> float:
        """Pass time until all steps are done; return the seconds since the breaker closed."""
        for _ in range(600):
            await self.pass_time(timedelta(seconds=1))
            if not await self.unfinished():
                return (self.db.clock.now() - (await self.breaker(name)).closed_at) / SECOND
        raise AssertionError(f"{await self.unfinished()} steps are still to be done")


@pytest.fixture
async def outage(
    engine_name: str, engine_setup: tuple[Setup, Path | str], clock: Clock, sandbox: Sandbox
) -> AsyncIterator[Outage]:
    """Run a school whose partners are behind a proxy each."""
    setup, database = engine_setup
    port = urlsplit(sandbox.url).port or 0
    async with AsyncExitStack() as stack:
        proxies = {
            name: await stack.enter_async_context(proxy_to(port, Proxy)) for name in PARTNERS
        }
        settings = {
            key: sandbox.settings[key].replace(f":{port}/", f":{proxy.port}/")
            for name, proxy in proxies.items()
            if (key := f"HOMEROOM_{name.upper()}_URL")
        }
        db, engine = await stack.enter_async_context(setup(database, clock))
        here = await stack.enter_async_context(
            school(db, sandbox, engine=engine, gated=True, patience=PATIENCE, settings=settings)
        )
        async with here.kernel.worker(poll=POLL, concurrency=8):
            yield Outage(here, engine_name, proxies)


async def check_all_once(outage: Outage, completions: int) -> None:
    """Check that every step is done and every partner has each message once."""
    sandbox = outage.here.sandbox
    steps = await outage.steps()
    assert len(steps) == completions * len(STEPS)
    assert {step.status for step in steps} == {"completed"}
    badges = await sandbox.badges()
    assert len(badges) == completions == len({badge["issuer_earner_id"] for badge in badges})
    for name, most in (("analytics", 1), ("hr", 2)):  # HR's update follows an outage of a day
        summary = await sandbox.summary(name)
        assert completions <= summary["deliveries"] <= most * completions
        assert summary["doubled"] == {}
    async with outage.db.read() as tx:
        assert await count_held(tx) == {}


def events(lines: list[Any]) -> list[tuple[str, str]]:
    """Return the log events about partners, as (event, partner); few attempts fail meanwhile."""
    failed = [line for line in lines if line["event"] == "job_attempt_failed"]
    assert len(failed) <= 20, failed
    return [
        (line["event"], line["partner"]) for line in lines if line["event"].startswith("partner_")
    ]


@pytest.mark.parametrize("name", PARTNERS)
async def test_completions_of_an_outage_of_90_s_are_done_two_minutes_after_it(
    outage: Outage, name: str
) -> None:
    """The outage begins with another fault for each partner and each database."""
    engine = list(OUTAGE_ENGINES).index(outage.engine)
    first = (list(PARTNERS).index(name) + engine) % len(FAULTS)
    faults = (*FAULTS[first:], *FAULTS[:first])
    with structlog.testing.capture_logs() as lines:
        for moment in range(MOMENTS):
            await outage.begin_fault(name, faults[moment * len(faults) // MOMENTS])
            await outage.complete(A_MOMENT, f"m{moment}-")
            await outage.pass_time(timedelta(seconds=9))
        assert (await outage.breaker(name)).state == "away"
        affected = PARTNERS[name].steps
        others = [step for step in await outage.steps() if step.name not in affected]
        assert {step.status for step in others} == {"completed"}  # it blocks no other partner
        waiting = [step for step in await outage.steps() if step.name in affected]
        assert {step.status for step in waiting} == {"waiting"}
        assert len(waiting) == MOMENTS * A_MOMENT * len(affected)
        assert max(step.attempts for step in waiting) <= 2
        await outage.heal(name)
        assert await outage.finish(name) <= 120
    assert events(lines) == [("partner_away", name), ("partner_back", name)]
    await check_all_once(outage, MOMENTS * A_MOMENT)


async def test_a_partner_may_be_away_for_two_days(outage: Outage) -> None:
    """It answers lookups all the while, which must not look as if it took orders again."""
    await outage.here.sandbox.fault("credly", "status", status=503, match={"method": "POST"})
    with structlog.testing.capture_logs() as lines:
        await outage.complete(15)
        for _ in range(48):
            await outage.pass_time(timedelta(hours=1))
        steps = [step for step in await outage.steps() if step.name == "credential"]
        assert max(step.attempts for step in steps) <= 2
        await outage.heal("credly")
        assert await outage.finish("credly") <= 120
    assert events(lines) == [
        ("partner_away", "credly"),
        ("partner_back", "credly"),
    ]
    await check_all_once(outage, 15)


async def test_an_expired_key_that_is_replaced_ends_no_step(outage: Outage) -> None:
    await outage.here.sandbox.fault("credly", "status", status=401)
    with structlog.testing.capture_logs() as lines:
        await outage.complete(15)
        for _ in range(24):
            await outage.pass_time(timedelta(hours=1))
        assert (await outage.breaker("credly")).state == "refused"
        await outage.heal("credly")
        assert await outage.finish("credly") <= 120
    assert events(lines) == [
        ("partner_refused", "credly"),
        ("partner_back", "credly"),
    ]
    await check_all_once(outage, 15)


async def test_a_message_that_always_fails_keeps_the_partner_from_no_other(
    outage: Outage,
) -> None:
    """Its own failures are probes as well, and another message's probe closes the breaker."""
    await outage.complete(1, "bad")
    bad = MessageKey((await outage.steps())[0].completion_id, "analytics", COURSE_COMPLETED).id
    await outage.here.sandbox.fault("analytics", "status", status=500, match={"webhookId": bad})
    for _ in range(20):
        await outage.pass_time(timedelta(hours=1))
    assert (await outage.breaker("analytics")).state == "away"
    await outage.complete(10)
    for _ in range(12):
        await outage.pass_time(timedelta(minutes=10))
    for _ in range(5):
        await outage.pass_time(timedelta(seconds=1))
    open_steps = [step for step in await outage.steps() if step.status != "completed"]
    assert [(step.name, step.status) for step in open_steps] == [("analytics", "waiting")]
    await outage.heal("analytics")
    await outage.pass_time(timedelta(days=1))
    await outage.finish("analytics")
    await check_all_once(outage, 11)


async def test_an_operator_may_close_the_breaker(outage: Outage) -> None:
    await outage.here.sandbox.fault("hr", "status", status=503)
    await outage.complete(15)
    await outage.pass_time(timedelta(seconds=1))
    assert (await outage.breaker("hr")).is_open
    await outage.heal("hr")
    async with outage.db.write() as tx:
        await PartnerGate(outage.db, "hr").switch_on(tx)
    await outage.finish("hr")
    await check_all_once(outage, 15)


async def test_a_bad_request_opens_nothing(outage: Outage) -> None:
    await outage.here.sandbox.fault("analytics", "status", status=400)
    await outage.complete(12)
    await outage.pass_time(timedelta(seconds=1))
    assert (await outage.breaker("analytics")).is_clean
    steps = [step for step in await outage.steps() if step.name == "analytics"]
    assert {step.status for step in steps} == {"failed"}
