"""A completion holds for as long as its course says; then its enrolment is ``expired`` (B12)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from tests.service.progress_school import School, chapter, event, school

from homeroom.clock import Clock, from_datetime
from homeroom.db.database import Database
from homeroom.jobs.api import enqueue
from homeroom.progress import jobs
from homeroom.progress.api import ExpireEnrolments

pytestmark = pytest.mark.anyio


@pytest.fixture
async def house(db: Database) -> AsyncIterator[School]:
    async with school(db) as opened:
        yield opened


def at(clock: Clock, text: str) -> None:
    """Move the clock of a test."""
    wanted = from_datetime(datetime.fromisoformat(text))
    clock.advance(timedelta(microseconds=wanted - clock.now()))


async def finish(house: School, user: str, when: str, id: str | None = None) -> None:
    done = event(id or f"done-{user}", "chapter_complete", userId=user, timestamp=when)
    assert (await house.send(done))["accepted"] == 1


async def expire(house: School) -> None:
    async with house.db.write() as tx:
        await enqueue(tx, ExpireEnrolments())
    await house.work()


async def statuses(house: School) -> dict[str, str]:
    rows = await house.rows("SELECT user_id, status FROM enrolment WHERE course_id = 'fire'")
    return dict(rows)


async def test_an_enrolment_expires_when_its_validity_has_passed(
    house: School, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "EXPIRE_PAGE", 2)
    at(clock, "2026-03-01T08:00:00Z")
    await house.publish("fire", chapter("a"), validity="P1M")
    await house.publish("other", chapter("a"))
    for user, when in (
        ("ann", "2026-01-30T12:00:00Z"),  # and one month is 28 February, at noon
        ("ben", "2026-01-31T08:00:00Z"),
        ("cem", "2026-02-01T07:59:59Z"),
        ("dia", "2026-02-01T08:00:00Z"),
        ("eva", "2026-02-01T08:30:00Z"),
        ("fay", "2026-02-28T08:00:00Z"),
    ):
        await finish(house, user, when)
    await house.send(event("begun", userId="gil", progress=50, timestamp="2026-01-01T00:00:00Z"))
    await finish(house, "ann", "2026-01-30T12:00:00Z", "elsewhere")
    await house.send(
        event("other", "chapter_complete", courseId="other", timestamp="2020-01-01T00:00:00Z")
    )
    before = await house.progress("ann")

    await expire(house)
    assert await statuses(house) == {
        "ann": "expired",
        "ben": "expired",
        "cem": "expired",
        "dia": "expired",
        "eva": "completed",
        "fay": "completed",
        "gil": "in_progress",
    }
    after = await house.progress("ann")
    assert after == {**before, "status": "expired"}
    assert after["completedAt"] == "2026-01-30T12:00:00.000Z"
    assert await house.rows("SELECT status FROM enrolment WHERE course_id = 'other'") == [
        ("completed",)
    ]

    at(clock, "2026-03-01T08:30:00Z")
    await expire(house)
    assert (await statuses(house))["eva"] == "expired"
    assert (await statuses(house))["fay"] == "completed"


async def test_the_version_that_was_completed_says_how_long_it_holds(
    house: School, clock: Clock
) -> None:
    at(clock, "2026-06-01T00:00:00Z")
    await house.publish("fire", chapter("a"))
    await finish(house, "ann", "2026-01-01T00:00:00Z")
    await house.publish("fire", chapter("a"), validity="P1Y")
    await finish(house, "ben", "2026-01-01T00:00:00Z")
    await house.publish("fire", chapter("a"), validity="P30D")
    await finish(house, "cem", "2026-01-01T00:00:00Z")
    await expire(house)
    assert await statuses(house) == {"ann": "completed", "ben": "completed", "cem": "expired"}


async def test_an_expired_course_is_renewed_by_a_new_attempt(house: School, clock: Clock) -> None:
    at(clock, "2026-06-01T00:00:00Z")
    await house.publish("fire", chapter("a"), validity="P30D")
    await finish(house, "ada", "2026-01-01T00:00:00Z")
    await expire(house)
    await house.send(
        event("again", "progress_reset", chapterId=None, timestamp="2026-05-30T00:00:00Z")
    )
    assert (await house.progress())["attempt"] == 2
    await finish(house, "ada", "2026-05-31T00:00:00Z", "renewed")
    await expire(house)
    rows = await house.rows("SELECT attempt, status FROM enrolment ORDER BY attempt")
    assert rows == [(1, "expired"), (2, "completed")]
    assert await house.rows("SELECT count(*) FROM completion") == [(2,)]
