"""Enrolments expire when the validity of their completion ends (rule B12)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from tests.support.progress_school import School, chapter, event, open_school

from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.instant import from_datetime
from homeroom.jobs.api import enqueue
from homeroom.progress import jobs
from homeroom.progress.api import ExpireEnrolments

pytestmark = pytest.mark.anyio


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with open_school(db) as opened:
        yield opened


def at(clock: Clock, text: str) -> None:
    """Clock of a test, which it advances."""
    wanted = from_datetime(datetime.fromisoformat(text))
    clock.advance(timedelta(microseconds=wanted - clock.now()))


async def finish(school: School, user: str, when: str, id: str | None = None) -> None:
    done = event(id or f"done-{user}", "chapter_complete", userId=user, timestamp=when)
    assert (await school.send(done))["accepted"] == 1


async def expire(school: School) -> None:
    async with school.db.write() as tx:
        await enqueue(tx, ExpireEnrolments())
    await school.work()


async def statuses(school: School) -> dict[str, str]:
    rows = await school.rows("SELECT user_id, status FROM enrolment WHERE course_id = 'fire'")
    return dict(rows)


async def test_an_enrolment_expires_when_its_validity_has_passed(
    school: School, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "EXPIRE_PAGE", 2)
    at(clock, "2026-03-01T08:00:00Z")
    await school.publish("fire", chapter("a"), validity="P1M")
    await school.publish("other", chapter("a"))
    for user, when in (
        ("ann", "2026-01-30T12:00:00Z"),  # and one month is 28 February, at noon
        ("ben", "2026-01-31T08:00:00Z"),
        ("cem", "2026-02-01T07:59:59Z"),
        ("dia", "2026-02-01T08:00:00Z"),
        ("eva", "2026-02-01T08:30:00Z"),
        ("fay", "2026-02-28T08:00:00Z"),
    ):
        await finish(school, user, when)
    await school.send(event("begun", userId="gil", progress=50, timestamp="2026-01-01T00:00:00Z"))
    await finish(school, "ann", "2026-01-30T12:00:00Z", "elsewhere")
    await school.send(
        event("other", "chapter_complete", courseId="other", timestamp="2020-01-01T00:00:00Z")
    )
    before = await school.progress("ann")

    await expire(school)
    assert await statuses(school) == {
        "ann": "expired",
        "ben": "expired",
        "cem": "expired",
        "dia": "expired",
        "eva": "completed",
        "fay": "completed",
        "gil": "in_progress",
    }
    after = await school.progress("ann")
    assert after == {**before, "status": "expired"}
    assert after["completedAt"] == "2026-01-30T12:00:00.000000Z"
    assert await school.rows("SELECT status FROM enrolment WHERE course_id = 'other'") == [
        ("completed",)
    ]

    at(clock, "2026-03-01T08:30:00Z")
    await expire(school)
    assert (await statuses(school))["eva"] == "expired"
    assert (await statuses(school))["fay"] == "completed"


async def test_the_completed_version_decides_the_validity(school: School, clock: Clock) -> None:
    at(clock, "2026-06-01T00:00:00Z")
    await school.publish("fire", chapter("a"))
    await finish(school, "ann", "2026-01-01T00:00:00Z")
    await school.publish("fire", chapter("a"), validity="P1Y")
    await finish(school, "ben", "2026-01-01T00:00:00Z")
    await school.publish("fire", chapter("a"), validity="P30D")
    await finish(school, "cem", "2026-01-01T00:00:00Z")
    await expire(school)
    assert await statuses(school) == {"ann": "completed", "ben": "completed", "cem": "expired"}


async def test_an_expired_course_is_renewed_by_a_new_attempt(school: School, clock: Clock) -> None:
    at(clock, "2026-06-01T00:00:00Z")
    await school.publish("fire", chapter("a"), validity="P30D")
    await finish(school, "ada", "2026-01-01T00:00:00Z")
    await expire(school)
    await school.send(
        event("again", "progress_reset", chapterId=None, timestamp="2026-05-30T00:00:00Z")
    )
    assert (await school.progress())["attempt"] == 2
    await finish(school, "ada", "2026-05-31T00:00:00Z", "renewed")
    await expire(school)
    rows = await school.rows("SELECT attempt, status FROM enrolment ORDER BY attempt")
    assert rows == [(1, "expired"), (2, "completed")]
    assert await school.rows("SELECT count(*) FROM completion") == [(2,)]
