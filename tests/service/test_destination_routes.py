"""Destinations over HTTP: the states of partners, and switching one on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from structlog.testing import capture_logs
from tests.support.api_client import AUTH, as_, client
from tests.support.partner_school import School, running_sandbox, school

from homeroom.db.database import Database
from homeroom.dispatch import destination_routes
from homeroom.dispatch.destinations import DestinationProfile, Destinations
from homeroom.instant import SECOND
from homeroom.partner.gate import PartnerGate
from homeroom.partner.key_expiry import CREDLY_KEY_LIFETIME, PartnerKey, key_digest

pytestmark = [pytest.mark.anyio, pytest.mark.service]
OPERATOR, VIEWER = as_("operator"), as_("viewer")
LIST = "/api/v1/destinations"
PROFILES = (
    DestinationProfile("credly", "credentials", False, 10),
    DestinationProfile("analytics", "webhook", True, 10, "analytics"),
    DestinationProfile("hr", "webhook", True, 2.5, "hr"),
)


@pytest.fixture
async def here(db: Database) -> AsyncIterator[School]:
    async with (
        running_sandbox() as running,
        school(db, running, only=["analytics", "hr"], gated=True) as built,
    ):
        yield built


@pytest.fixture
async def api(here: School) -> AsyncIterator[httpx.AsyncClient]:
    async with client(
        destination_routes.router(
            here.db, AUTH, Destinations(here.db, PROFILES, here.completions), here.dispatches
        )
    ) as opened:
        yield opened


async def test_a_partner_that_is_away_is_listed_and_switched_on(
    here: School, api: httpx.AsyncClient
) -> None:
    await here.sandbox.fault("hr", "status", status=503, times=5)
    course = await here.publish()
    ids = [await here.complete(course, f"u{number}") for number in range(8)]
    await here.work(skip_waits=False)
    credly, analytics, hr = (await api.get(LIST, headers=VIEWER)).json()["items"]
    assert (credly["isConfigured"], credly["state"], credly["heldJobs"]) == (False, "on", 0)
    assert (analytics["state"], analytics["failures"], analytics["lastError"]) == ("on", 0, None)
    assert (hr["state"], hr["failures"], hr["lastStatus"], hr["heldJobs"]) == ("away", 5, 503, 8)
    assert hr["since"] < hr["nextProbeAt"]
    assert (hr["waitingSteps"], hr["failedSteps"], hr["lastSuccessAt"]) == (8, 0, None)
    assert hr["outstandingSince"] < hr["since"]
    assert (analytics["waitingSteps"], analytics["outstandingSince"]) == (0, None)
    assert analytics["lastSuccessAt"] is not None
    assert "the HR system answered 503" in hr["lastError"]
    step = await here.step(ids[-1], "hr")
    assert (step.status, step.attempts) == ("waiting", 0)
    assert "the HR system is away since" in (step.last_error or "")
    assert (await api.post(f"{LIST}/hr/switch-on", headers=VIEWER)).status_code == 403
    on = await api.post(f"{LIST}/hr/switch-on", headers=OPERATOR)
    assert (on.status_code, on.json()["state"], on.json()["heldJobs"]) == (200, "on", 8)
    await here.work()
    assert {(await here.step(id, "hr")).status for id in ids} == {"completed"}
    async with here.db.read() as tx:
        rows = await tx.fetch("SELECT action, subject FROM audit")
    assert rows == [("destination.switched_on", "hr")]


async def test_a_destination_that_answered_410_is_switched_on(
    here: School, api: httpx.AsyncClient
) -> None:
    await here.sandbox.fault("analytics", "status", status=410, times=1)
    id = await here.complete(await here.publish())
    await here.work(skip_waits=False)
    [_, analytics, _] = (await api.get(LIST, headers=VIEWER)).json()["items"]
    assert (analytics["state"], analytics["disabledReason"]) == ("disabled", "it answered 410")
    assert (analytics["since"] is not None, analytics["heldJobs"]) == (True, 1)
    on = await api.post(f"{LIST}/analytics/switch-on", headers=OPERATOR)
    assert (on.json()["state"], on.json()["disabledReason"]) == ("on", None)
    await here.kernel.maintenance.tick()
    await here.work()
    assert (await here.step(id, "analytics")).status == "completed"


async def test_an_unknown_destination_is_not_found(api: httpx.AsyncClient) -> None:
    answer = await api.post(f"{LIST}/mars/switch-on", headers=OPERATOR)
    assert answer.status_code == 404
    assert "credly, analytics, hr" in answer.json()["detail"]
    assert (await api.get(LIST, headers=as_("learner:ada"))).status_code == 403


async def test_a_test_message_shows_whether_the_receiver_takes_the_signature(
    here: School, api: httpx.AsyncClient
) -> None:
    assert (await api.post(f"{LIST}/hr/test", headers=VIEWER)).status_code == 403
    assert (await api.post(f"{LIST}/mars/test", headers=OPERATOR)).status_code == 404
    answer = await api.post(f"{LIST}/hr/test", headers=OPERATOR)
    assert (answer.status_code, answer.json()) == (200, {"status": 200})
    summary = await here.sandbox.summary("hr")
    assert (summary["tests"], summary["deliveries"]) == (1, 0)
    await here.sandbox.fault("hr", "status", status=503, times=6)
    for _ in range(6):
        refused = await api.post(f"{LIST}/hr/test", headers=OPERATOR)
        assert refused.status_code == 503
        assert "the HR system answered 503" in refused.json()["detail"]
    hr = (await api.get(LIST, headers=VIEWER)).json()["items"][2]
    assert (hr["state"], hr["failures"]) == ("on", 0), "the breaker counts no test"


async def test_the_expiry_of_a_key_is_foreseen(here: School) -> None:
    key = PartnerKey(key_digest("one"), CREDLY_KEY_LIFETIME)
    gate = PartnerGate(here.db, "credly", key)
    destinations = Destinations(
        here.db,
        [DestinationProfile("credly", "credentials", True, 10, "credential", key)],
        here.completions,
    )

    async def expiry() -> int | None:
        async with here.db.read() as tx:
            [credly] = await destinations.list_all(tx)
        return credly.key_expires_at

    assert await expiry() is None
    first = here.db.clock.now()
    with capture_logs() as lines:
        await gate.record_success("clean")
        here.db.clock.advance(timedelta(days=149))
        await gate.record_success("clean")
    assert [line["event"] for line in lines if line["event"] == "partner_key_expires"] == []
    expires_at = await expiry()
    assert expires_at is not None
    assert first + CREDLY_KEY_LIFETIME <= expires_at < first + CREDLY_KEY_LIFETIME + 60 * SECOND
    with capture_logs() as lines:
        here.db.clock.advance(timedelta(days=2))
        await gate.record_success("clean")
        here.db.clock.advance(timedelta(minutes=2))
        await gate.record_success("clean")  # once a day
    [line] = [line for line in lines if line["event"] == "partner_key_expires"]
    assert (line["partner"], line["days"]) == ("credly", 28)
    replaced = PartnerKey(key_digest("two"), CREDLY_KEY_LIFETIME)
    with capture_logs() as lines:
        await PartnerGate(here.db, "credly", replaced).record_success("clean")
    assert lines == []
    assert await expiry() is None  # of the key before nothing is foreseen any more
