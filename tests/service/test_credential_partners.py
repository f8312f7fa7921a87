"""The credential step: its directory, its scores, and its reasons to skip."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.partner_school import Sandbox, School, running_sandbox, school

from homeroom.credentials.api import BuiltInLearnerDirectory, CourseScoreLookup
from homeroom.db.database import Database
from homeroom.people import api as people
from homeroom.people.api import Person

pytestmark = [pytest.mark.anyio, pytest.mark.service]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox() as running:
        yield running


@pytest.fixture
async def here(db: Database, sandbox: Sandbox) -> AsyncIterator[School]:
    async with school(db, sandbox) as built:
        yield built


async def test_a_score_of_zero_stays_zero(here: School) -> None:
    score = {"userId": "ada", "courseId": "data", "score": 0}
    await here.sandbox.control("scores", {"scores": [score]})
    await here.complete(await here.publish(), score=0)
    await here.work()
    [credential] = await here.credential_of("ada")
    assert credential.score == 0
    [told] = await here.sandbox.received("analytics")
    assert told["body"]["data"]["score"] == 0


@pytest.mark.parametrize("answer", [{"missing": True}, {"score": None}])
async def test_no_score_is_null_and_not_zero(here: School, answer: dict[str, Any]) -> None:
    score = {"userId": "ada", "courseId": "data", **answer}
    await here.sandbox.control("scores", {"scores": [score]})
    await here.complete(await here.publish(), score=None)
    await here.work()
    [credential] = await here.credential_of("ada")
    assert credential.score is None
    [told] = await here.sandbox.received("hr")
    assert told["body"]["data"]["score"] is None


async def test_the_courses_own_score_counts_without_an_assessment_service(
    db: Database, sandbox: Sandbox
) -> None:
    async with school(db, sandbox, assessment=CourseScoreLookup()) as here:
        await here.complete(await here.publish(), score=8_750)
        await here.work()
        [credential] = await here.credential_of("ada")
    assert credential.score == 8_750
    assert await sandbox.received("assessment") == []


async def test_a_learner_without_an_address_fails_the_step_until_it_is_mended(
    here: School,
) -> None:
    await here.sandbox.control("people", {"people": [{"id": "ada", "email": None}]})
    id = await here.complete(await here.publish())
    await here.work()
    step = await here.step(id, "credential")
    assert (step.status, step.attempts) == ("failed", 1)
    assert "the learner ada has no e-mail address" in (step.last_error or "")
    assert await here.sandbox.received("credly") == []
    for other in ("analytics", "hr"):
        assert (await here.step(id, other)).status == "completed"
    await here.sandbox.control("people", {"people": [{"id": "ada", "email": "ada@example.org"}]})
    await here.retry(id, "credential")
    await here.work()
    assert (await here.step(id, "credential")).status == "completed"
    assert (await here.sandbox.summary("credly"))["badges"] == 1


async def test_a_learner_whom_the_directory_does_not_know_fails_the_step(here: School) -> None:
    await here.sandbox.control("people", {"unknown": ["ada"]})
    id = await here.complete(await here.publish())
    await here.work()
    step = await here.step(id, "credential")
    assert (step.status, step.last_error) == (
        "failed",
        "the directory does not know the learner ada; add the learner there and retry this step",
    )
    [told] = await here.sandbox.received("hr")
    assert (told["body"]["data"]["givenName"], told["body"]["data"]["familyName"]) == (None, None)


async def test_the_built_in_directory_serves_without_a_partner(
    db: Database, sandbox: Sandbox
) -> None:
    async with school(db, sandbox, directory=BuiltInLearnerDirectory(db)) as here:
        id = await here.complete(await here.publish())
        await here.work()
        assert (await here.step(id, "credential")).status == "failed"
        async with db.write() as tx:
            await people.put(tx, Person("ada", "ada@example.org", "Ada", "Okafor"))
        await here.retry(id, "credential")
        await here.work()
        [badge] = await sandbox.badges()
    assert badge["recipient_email"] == "ada@example.org"
    assert await sandbox.received("directory") == []


@pytest.mark.parametrize("server", ["directory", "assessment"])
@pytest.mark.parametrize(
    "fault",
    [{"mode": "status", "status": 500}, {"mode": "drop"}, {"mode": "garbage"}],
    ids=lambda fault: str(fault["mode"]),
)
async def test_a_partners_error_is_never_taken_for_an_answer(
    here: School, server: str, fault: dict[str, Any]
) -> None:
    await here.sandbox.fault(server, times=2, **fault)
    id = await here.complete(await here.publish())
    await here.work()
    step = await here.step(id, "credential")
    assert step.status == "completed"
    [badge] = await here.sandbox.badges()
    assert badge["issuer_earner_id"] == "ada"
    [credential] = await here.credential_of("ada")
    assert credential.score is not None


async def test_hr_alone_waits_for_the_credential_until_it_has_ended(here: School) -> None:
    await here.sandbox.fault("credly", "status", status=500)
    await here.sandbox.fault("assessment", "drop")
    id = await here.complete(await here.publish())
    await here.work(skip_waits=False)
    assert (await here.step(id, "credential")).status == "waiting"
    assert (await here.step(id, "analytics")).status == "completed"
    assert (await here.sandbox.summary("hr"))["deliveries"] == 0
    await here.work()
    assert (await here.step(id, "credential")).status == "failed"
    for name in ("analytics", "hr"):
        assert (await here.step(id, name)).status == "completed"
        assert (await here.sandbox.summary(name))["deliveries"] == 1


@pytest.mark.parametrize(
    ("options", "course", "code", "reason"),
    [
        (
            {"enabled": False},
            {},
            "credentials_disabled",
            "credentials are switched off (ENABLE_CREDENTIALS=false)",
        ),
        ({"issuer": None}, {}, "issuer_not_configured", "HOMEROOM_CREDLY_URL is not set"),
        (
            {},
            {"badgeTemplateId": None},
            "course_without_badge",
            "the course has no badgeTemplateId",
        ),
    ],
)
async def test_a_credential_that_cannot_be_issued_is_skipped_with_its_reason(
    db: Database,
    sandbox: Sandbox,
    options: dict[str, Any],
    course: dict[str, Any],
    code: str,
    reason: str,
) -> None:
    async with school(db, sandbox, **options) as here:
        id = await here.complete(await here.publish(**course))
        await here.work()
        step = await here.step(id, "credential")
        assert (step.status, step.skip_code, step.job_id) == ("skipped", code, None)
        assert step.skip_reason == reason
        assert (await here.step(id, "hr")).status == "completed"
    assert await sandbox.received("credly") == []


async def test_no_address_and_no_key_gets_into_an_error_or_a_log(
    here: School, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    await here.sandbox.control("people", {"people": [{"id": "ada", "email": "ada@example.org"}]})
    await here.sandbox.fault("credly", "hang_after_work", times=1, match={"method": "POST"})
    with caplog.at_level("DEBUG"):
        id = await here.complete(await here.publish())
        await here.work()
        assert (await here.step(id, "credential")).status == "completed"
    out, err = capfd.readouterr()
    async with here.db.read() as tx:
        rows = await tx.fetch("SELECT payload, result, last_error FROM job")
        rows += await tx.fetch("SELECT error, traceback, job FROM job_attempt")
    # the sandbox runs in this process too, and what its server logs is not Homeroom's
    ours = [one.getMessage() for one in caplog.records if not one.name.startswith("uvicorn")]
    written = out + err + str(rows) + str(ours)
    for secret in ("ada@example.org", "ada%40", "sandbox-credly-token", "dir-token"):
        assert secret not in written
