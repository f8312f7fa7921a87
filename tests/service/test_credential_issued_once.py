"""A credential is issued once, whatever goes wrong between Homeroom and Credly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.partner_school import (
    COMPLETED_AT,
    Sandbox,
    School,
    running_sandbox,
    school,
)

from homeroom.credentials.api import CredlyIssuer
from homeroom.credentials.credly import Badge, BadgeOrder
from homeroom.db.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.service]
DAY = 86_400_000_000


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox() as running:
        yield running


@pytest.fixture
async def here(db: Database, sandbox: Sandbox) -> AsyncIterator[School]:
    async with school(db, sandbox, only=["credential"]) as built:
        yield built


async def issued_once(here: School, completion_id: str) -> dict[str, Any]:
    """Check that Credly and Homeroom agree on one badge, and return it."""
    step = await here.step(completion_id, "credential")
    assert (step.status, step.last_error) == ("completed", None)
    [badge] = await here.sandbox.badges()
    [credential] = await here.credential_of("ada")
    assert step.external_id == credential.id
    assert credential.external_id == badge["id"]
    assert (credential.state, credential.url) == ("issued", badge["badge_url"])
    assert (await here.sandbox.summary("credly"))["doubled"] == 0
    return badge


async def test_a_badge_carries_what_the_course_and_the_directory_say(here: School) -> None:
    await here.sandbox.control(
        "people",
        {
            "people": [
                {
                    "id": "ada",
                    "email": "ada@example.org",
                    "givenName": "Ada",
                    "familyName": "Okafor",
                    "locale": "de-DE",
                }
            ]
        },
    )
    id = await here.complete(await here.publish())
    await here.work()
    badge = await issued_once(here, id)
    assert badge["recipient_email"] == "ada@example.org"
    assert (badge["issued_to_first_name"], badge["issued_to_last_name"]) == ("Ada", "Okafor")
    assert badge["issuer_earner_id"] == "ada"
    assert badge["badge_template_id"] == "data-basics"
    assert badge["locale"] == "de"
    assert badge["issued_at"] == "2026-11-22 09:00:00 +0000"
    assert badge["expires_at"] == "2027-11-22 09:00:00 +0000"
    [credential] = await here.credential_of("ada")
    assert credential.issued_at == COMPLETED_AT
    assert len(credential.id) >= 22  # 128 bits or more


@pytest.mark.parametrize("allow_duplicates", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        {"mode": "hang_after_work"},
        {"mode": "status", "status": 500, "afterWork": True},
        {"mode": "status", "status": 504, "afterWork": True},
        {"mode": "drop", "afterWork": True},
        {"mode": "garbage", "afterWork": True},
        {"mode": "status", "status": 503},
        {"mode": "drop"},
        {"mode": "garbage"},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
async def test_an_answer_that_goes_wrong_issues_no_second_badge(
    here: School, fault: dict[str, Any], allow_duplicates: bool
) -> None:
    template = {"id": "data-basics", "allowDuplicates": allow_duplicates}
    await here.sandbox.control("templates", {"templates": [template]})
    await here.sandbox.fault("credly", times=1, match={"method": "POST"}, **fault)
    id = await here.complete(await here.publish())
    await here.work()
    await issued_once(here, id)


class DiesAfterOrdering(CredlyIssuer):
    """The process is killed once between Credly's answer and the commit."""

    deaths = 1

    async def issue(self, order: BadgeOrder) -> Badge:
        badge = await super().issue(order)
        if self.deaths:
            self.deaths -= 1
            raise RuntimeError("killed")
        return badge


async def test_a_death_between_the_answer_and_the_commit_issues_no_second_badge(
    db: Database, sandbox: Sandbox
) -> None:
    await sandbox.control(
        "templates", {"templates": [{"id": "data-basics", "allowDuplicates": True}]}
    )
    async with school(db, sandbox, issuer=DiesAfterOrdering, only=["credential"]) as here:
        id = await here.complete(await here.publish())
        await here.work()
        await issued_once(here, id)
        assert (await here.step(id, "credential")).attempts == 2


async def test_a_public_id_is_stored_before_the_order_and_kept_over_attempts(
    db: Database, sandbox: Sandbox
) -> None:
    seen: list[str] = []

    class Looks(DiesAfterOrdering):
        async def issue(self, order: BadgeOrder) -> Badge:
            async with db.read() as tx:
                [(id, state)] = await tx.fetch("SELECT id, state FROM credential")
            assert state == "issuing"
            seen.append(id)
            return await super().issue(order)

    async with school(db, sandbox, issuer=Looks, only=["credential"]) as here:
        await here.complete(await here.publish())
        assert await here.credential_of("ada") == []  # what is not issued is not shown
        await here.work()
        [credential] = await here.credential_of("ada")
        assert seen == [credential.id]


async def test_a_look_up_that_fails_after_a_time_out_orders_nothing_blindly(here: School) -> None:
    template = {"id": "data-basics", "allowDuplicates": True}
    await here.sandbox.control("templates", {"templates": [template]})
    await here.sandbox.fault("credly", "hang_after_work", times=1, match={"method": "POST"})
    await here.sandbox.fault("credly", "status", status=500, times=2, match={"method": "GET"})
    id = await here.complete(await here.publish())
    await here.work()
    await issued_once(here, id)
    posts = [one for one in await here.sandbox.received("credly") if one["method"] == "POST"]
    assert len(posts) == 1


async def test_a_time_out_leaves_credly_time_to_finish(here: School) -> None:
    await here.sandbox.fault("credly", "hang_after_work", times=1, match={"method": "POST"})
    await here.sandbox.fault("credly", "status", status=500, times=1, match={"method": "GET"})
    await here.complete(await here.publish())
    before = here.db.clock.now()
    await here.work(skip_waits=False)
    async with here.db.read() as tx:
        [(run_at,)] = await tx.fetch("SELECT run_at FROM job")
    assert run_at - before >= 10_000_000


async def test_retry_after_is_respected(here: School) -> None:
    await here.sandbox.fault("credly", "status", status=429, retryAfter=600, times=1)
    id = await here.complete(await here.publish())
    before = here.db.clock.now()
    await here.work(skip_waits=False)
    after = here.db.clock.now()
    async with here.db.read() as tx:
        [(state, run_at)] = await tx.fetch("SELECT state, run_at FROM job")
    assert state == "delayed"
    assert before + 600_000_000 <= run_at <= after + 600_000_000
    await here.work()
    await issued_once(here, id)


async def test_lasting_errors_fail_the_step_and_a_retry_mends_it(here: School) -> None:
    await here.sandbox.fault("credly", "status", status=500)
    id = await here.complete(await here.publish())
    await here.work()
    step = await here.step(id, "credential")
    assert (step.status, step.attempts) == ("failed", 10)
    assert (
        step.last_error
        == 'Credly answered 500: {"data":{"message":"the sandbox was told to fail"}}'
    )
    assert await here.sandbox.badges() == []
    await here.sandbox.client.delete(f"{here.sandbox.url}/control/faults")
    await here.retry(id, "credential")
    await here.work()
    await issued_once(here, id)


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_refusal_is_final(here: School, status: int) -> None:
    await here.sandbox.fault("credly", "status", status=status, match={"method": "POST"})
    id = await here.complete(await here.publish())
    await here.work()
    step = await here.step(id, "credential")
    assert (step.status, step.attempts) == ("failed", 1)
    assert f"Credly answered {status}" in (step.last_error or "")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_replaced_within_days_ends_no_step(here: School, status: int) -> None:
    await here.sandbox.fault("credly", "status", status=status, times=9)
    id = await here.complete(await here.publish())
    await here.work()
    assert (await here.step(id, "credential")).attempts == 10
    await issued_once(here, id)


async def test_an_archived_template_is_said_so(here: School) -> None:
    await here.sandbox.control(
        "templates", {"templates": [{"id": "data-basics", "archived": True}]}
    )
    id = await here.complete(await here.publish())
    await here.work()
    step = await here.step(id, "credential")
    assert step.status == "failed"
    assert "archived" in (step.last_error or "")


async def test_a_badge_of_another_course_is_not_replaced_and_the_error_has_the_fix(
    here: School,
) -> None:
    await here.complete(await here.publish())
    await here.work()
    other = await here.publish("more-data")  # of the same template
    second = await here.complete(other, completed_at=COMPLETED_AT + DAY)
    await here.work()
    step = await here.step(second, "credential")
    [badge] = await here.sandbox.badges()
    assert step.status == "failed"
    assert badge["id"] in (step.last_error or "")
    assert "template's settings" in (step.last_error or "")
    template = {"id": "data-basics", "allowDuplicates": True}
    await here.sandbox.control("templates", {"templates": [template]})
    await here.retry(second, "credential")
    await here.work()
    assert {one.state for one in await here.credential_of("ada")} == {"issued"}
    assert {one["state"] for one in await here.sandbox.badges()} == {"pending"}


async def recertified(here: School) -> None:
    """Check that the second attempt has the one valid badge, and the first is superseded."""
    newer, older = await here.credential_of("ada")
    [valid] = [badge for badge in await here.sandbox.badges() if badge["state"] != "revoked"]
    assert (newer.state, newer.attempt, newer.external_id) == ("issued", 2, valid["id"])
    assert (older.state, older.superseded_by) == ("superseded", newer.id)
    assert older.external_id not in (None, valid["id"])  # it is not lost
    assert valid["issued_at"] == "2027-12-27 09:00:00 +0000"
    assert (valid["issuer_earner_id"], valid["recipient_email"]) == ("ada", "ada@example.org")


PERSON = {"id": "ada", "email": "ada@example.org"}


@pytest.mark.parametrize(
    "fault",
    [
        None,
        {"mode": "hang_after_work"},
        {"mode": "status", "status": 500, "afterWork": True},
        {"mode": "status", "status": 504, "afterWork": True},
        {"mode": "drop", "afterWork": True},
        {"mode": "garbage", "afterWork": True},
        {"mode": "status", "status": 503},
        {"mode": "status", "status": 429},
        {"mode": "status", "status": 401},
        {"mode": "drop"},
        {"mode": "garbage"},
    ],
    ids=lambda fault: "-".join(str(value) for value in (fault or {"none": ""}).values()),
)
async def test_a_recertification_replaces_the_badge_over_every_fault(
    here: School, fault: dict[str, Any] | None
) -> None:
    await here.sandbox.control("people", {"people": [PERSON]})
    course = await here.publish()
    await here.complete(course)
    await here.work()
    [first] = await here.sandbox.badges()
    if fault is not None:
        match = {"method": "POST", "badgeId": first["id"]}
        await here.sandbox.fault("credly", times=1, match=match, **fault)
    second = await here.complete(course, attempt=2, completed_at=COMPLETED_AT + 400 * DAY)
    await here.work()
    assert (await here.step(second, "credential")).status == "completed"
    await recertified(here)
    assert len(await here.sandbox.badges()) == 2


async def test_a_replaced_badge_that_credly_reports_as_revoked_stays_superseded(
    here: School,
) -> None:
    await here.sandbox.control("people", {"people": [PERSON]})
    course = await here.publish()
    await here.complete(course)
    await here.work()
    await here.complete(course, attempt=2, completed_at=COMPLETED_AT + 400 * DAY)
    await here.work()
    for event in (await here.sandbox.get("badges"))["events"]:
        await here.credentials.refresh_from_event(event["id"])
    await recertified(here)
    older = (await here.credential_of("ada"))[1]
    assert older.issuer_state == "revoked"


class DiesAfterReplacing(CredlyIssuer):
    """The process is killed once between Credly's answer and the commit."""

    deaths = 1

    async def replace(self, badge_id: str, order: BadgeOrder) -> Badge:
        badge = await super().replace(badge_id, order)
        if self.deaths:
            self.deaths -= 1
            raise RuntimeError("killed")
        return badge


async def test_a_hook_between_the_replacement_and_the_commit_loses_no_credential(
    db: Database, sandbox: Sandbox
) -> None:
    async with school(db, sandbox, issuer=DiesAfterReplacing, only=["credential"]) as here:
        await here.sandbox.control("people", {"people": [PERSON]})
        course = await here.publish()
        await here.complete(course)
        await here.work()
        await here.complete(course, attempt=2, completed_at=COMPLETED_AT + 400 * DAY)
        await here.work(skip_waits=False)
        events = (await here.sandbox.get("badges"))["events"]
        [revoked] = [one for one in events if one["event_type"] == "badge.state.changed"]
        await here.credentials.refresh_from_event(revoked["id"])
        assert [one.state for one in await here.credential_of("ada")] == ["revoked"]
        await here.work()
        await recertified(here)


async def test_an_earlier_attempt_that_is_issued_late_takes_no_badge_away(here: School) -> None:
    await here.sandbox.control("people", {"people": [PERSON], "unknown": ["ada"]})
    course = await here.publish()
    first = await here.complete(course)
    await here.work()
    assert (await here.step(first, "credential")).status == "failed"
    await here.sandbox.control("people", {"people": [PERSON]})
    await here.complete(course, attempt=2, completed_at=COMPLETED_AT + 400 * DAY)
    await here.work()
    await here.retry(first, "credential")
    await here.work()
    step = await here.step(first, "credential")
    assert (step.status, step.skip_code) == ("skipped", "later_attempt_has_badge")
    [badge] = await here.sandbox.badges()
    [credential] = await here.credential_of("ada")
    assert (credential.attempt, credential.state) == (2, "issued")
    assert credential.external_id == badge["id"]


async def test_two_courses_with_one_template_and_one_date_never_share_a_badge(
    here: School,
) -> None:
    template = {"id": "data-basics", "allowDuplicates": True}
    await here.sandbox.control("templates", {"templates": [template]})
    for name in ("data", "more-data"):
        await here.sandbox.fault("credly", "hang_after_work", times=1, match={"method": "POST"})
        await here.complete(await here.publish(name))
        await here.work()
    credentials = await here.credential_of("ada")
    assert len({one.external_id for one in credentials}) == len(credentials) == 2


async def test_repeating_the_job_issues_nothing_more(here: School) -> None:
    id = await here.complete(await here.publish())
    await here.work()
    await issued_once(here, id)
    async with here.db.write() as tx:
        await tx.execute("UPDATE job SET state = 'waiting'")
    await here.work()
    await issued_once(here, id)


async def test_an_address_that_changed_meanwhile_finds_the_same_badge(here: School) -> None:
    template = {"id": "data-basics", "allowDuplicates": True}
    await here.sandbox.control("templates", {"templates": [template]})
    await here.sandbox.fault("credly", "status", status=500, afterWork=True, times=1)
    id = await here.complete(await here.publish())
    await here.work(skip_waits=False)
    person = {"id": "ada", "email": "ada.okafor@example.org"}
    await here.sandbox.control("people", {"people": [person]})
    await here.work()
    await issued_once(here, id)
