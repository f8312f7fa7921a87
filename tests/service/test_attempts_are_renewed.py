"""Who has completed a course is asked for what is new in it, and keeps what is done (B11, B12)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.service.progress_school import (
    ADA,
    SERVICE,
    School,
    attempt_at_quiz,
    chapter,
    course_body,
    event,
    quiz,
    school,
)
from tests.service.rooms_client import as_

from homeroom.db.database import Database
from homeroom.jobs.api import enqueue
from homeroom.progress import jobs
from homeroom.progress.api import ExpireEnrolments

pytestmark = pytest.mark.anyio
BOSS = as_("manager:boss")
NOON = "2026-11-20T12:00:00Z"
LATER = "2026-11-21T12:00:00Z"


@pytest.fixture
async def house(db: Database) -> AsyncIterator[School]:
    async with school(db) as opened:
        yield opened


async def publish_anew(house: School, *chapters: dict[str, Any], **more: Any) -> None:
    """Publish an edit that asks for what is new, and let it be seen to."""
    await house.publish("fire", *chapters, **{"learnerPolicy": "require_new", **more})
    await house.work()


async def finish(house: School, user: str = "ada", **more: Any) -> None:
    done = event(f"a of {user}", "chapter_complete", userId=user, timeSpent=60, **more)
    assert (await house.send(done))["accepted"] == 1


def shown(seen: dict[str, Any]) -> list[tuple[str, float, bool, int]]:
    return [
        (each["chapterId"], each["progress"], each["completed"], each["timeSpent"])
        for each in seen["chapters"]
    ]


async def test_an_edit_asks_who_has_completed_the_course_for_what_is_new(house: School) -> None:
    await house.publish("fire", chapter("a"))
    await finish(house)
    await publish_anew(house, chapter("a"), chapter("new"))
    seen = await house.progress()
    assert (seen["attempt"], seen["version"], seen["status"]) == (2, 2, "in_progress")
    assert (seen["progress"], seen["completedAt"], seen["timeSpent"]) == (50, None, 0)
    assert shown(seen) == [("a", 100, True, 0), ("new", 0, False, 0)]
    assert seen["chapters"][0]["lastWatchedAt"] == "2026-11-20T09:00:00.000Z"
    # The first attempt is what it was: completed, with its date.
    first = "SELECT status, version FROM enrolment WHERE attempt = 1"
    assert await house.rows(first) == [("completed", 1)]
    now = house.db.clock.now() // 1_000
    await house.send(event("2", "chapter_complete", chapterId="new", timestamp=now, timeSpent=5))
    done = await house.progress()
    assert (done["status"], done["progress"], done["timeSpent"]) == ("completed", 100, 5)
    attempts = "SELECT attempt, superseded_by IS NULL FROM completion ORDER BY attempt"
    assert [(n, bool(last)) for n, last in await house.rows(attempts)] == [(1, False), (2, True)]
    assert await house.rows("SELECT count(*) FROM job WHERE queue = 'celebrations'") == [(2,)]


async def test_who_did_all_that_is_asked_already_is_left_alone(house: School) -> None:
    await house.publish("fire", chapter("a"), chapter("b", required=False))
    await house.send(event("b", "chapter_complete", chapterId="b"))
    for user in ("ada", "bob"):
        await finish(house, user)
    await publish_anew(house, chapter("a"), chapter("b"))
    seen = await house.progress()
    assert (seen["attempt"], seen["version"], seen["status"]) == (1, 1, "completed")
    assert seen["newerVersionAvailable"] is True
    assert (await house.progress("bob"))["attempt"] == 2


async def test_open_learners_move_at_once_and_keep_their_attempt(house: School) -> None:
    await house.publish("fire", chapter("a"), chapter("b"))
    await finish(house)
    await publish_anew(house, chapter("a"), chapter("b"), chapter("c"))
    seen = await house.progress()
    assert (seen["attempt"], seen["version"], seen["progress"]) == (1, 2, 33.33)
    [(result,)] = await house.rows("SELECT result FROM job WHERE kind = 'progress.move_learners'")
    assert result.replace(" ", "") == '{"moved":1,"finished":0,"renewed":0}'


async def test_every_edit_asks_again_and_asks_each_learner_once(
    house: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOVE_PAGE", 2)
    await house.publish("fire", chapter("a"))
    for user in ("ann", "ben", "cem", "dia", "eva"):
        await finish(house, user)
    await publish_anew(house, chapter("a"), chapter("b"))
    now = house.db.clock.now() // 1_000
    done = {"chapterId": "b", "timestamp": now}
    await house.send(event("b of ann", "chapter_complete", userId="ann", **done))
    await publish_anew(house, chapter("a"), chapter("b"), chapter("c"))
    newest = await house.rows(
        "SELECT user_id, max(attempt), max(version) FROM enrolment GROUP BY user_id ORDER BY 1"
    )
    assert newest == [("ann", 3, 3), *((user, 2, 3) for user in ("ben", "cem", "dia", "eva"))]
    assert (await house.progress("ann"))["progress"] == 66.66
    renewals = "SELECT count(*) FROM progress_event WHERE type = 'attempt_renewed'"
    assert await house.rows(renewals) == [(6,)]


async def test_passed_quizzes_and_waivers_are_carried_over(house: School) -> None:
    grade = {
        "criteria": {"all": [{"type": "all_items"}, {"type": "min_course_grade", "grade": 0.8}]}
    }
    await house.publish("fire", quiz("a"), chapter("b"), **grade)
    waived = event("w", "chapter_waived", chapterId="b", metadata={"reason": "Done elsewhere."})
    await house.send(attempt_at_quiz("1", 9), waived)
    assert (await house.progress())["status"] == "completed"
    await publish_anew(house, quiz("a"), chapter("b"), chapter("new"), **grade)
    seen = await house.progress()
    assert [each["completed"] for each in seen["chapters"]] == [True, True, False]
    assert seen["chapters"][0]["quiz"] == {"score": 0.9, "attempts": 1, "passed": True}
    now = house.db.clock.now() // 1_000
    await house.send(event("2", "chapter_complete", chapterId="new", timestamp=now))
    assert (await house.progress())["status"] == "completed"


async def test_an_approval_and_time_are_asked_for_again_where_anything_is(house: School) -> None:
    both = {"criteria": {"all": [{"type": "min_time", "seconds": 60}, {"type": "manual"}]}}
    await house.publish("fire", chapter("a"), **both)
    await finish(house)
    path = "/api/v1/courses/fire/enrolments/ada"
    await house.http.put(path, json={"approved": True}, headers=SERVICE)
    assert (await house.progress())["status"] == "completed"
    await publish_anew(house, chapter("a"), title="Fire safety, with a better title", **both)
    assert (await house.progress())["attempt"] == 1
    items = {"criteria": {"all": [{"type": "all_items"}, *both["criteria"]["all"]]}}
    await publish_anew(house, chapter("a"), chapter("b"), **items)
    now = house.db.clock.now() // 1_000
    await house.send(event("2", "chapter_complete", chapterId="b", timeSpent=60, timestamp=now))
    seen = await house.progress()
    assert (seen["attempt"], seen["status"], seen["timeSpent"]) == (2, "in_progress", 60)
    await house.http.put(path, json={"approved": True}, headers=SERVICE)
    assert (await house.progress())["status"] == "completed"


async def test_an_edit_that_asks_for_nothing_asks_nobody(house: School) -> None:
    await house.publish("fire", chapter("a"))
    await finish(house)
    await publish_anew(house, chapter("a", required=False))
    assert (await house.progress())["attempt"] == 1


async def test_what_comes_late_to_the_old_attempt_counts_in_the_new_one(house: School) -> None:
    await house.publish("fire", chapter("a"), chapter("b", required=False))
    await finish(house)
    await publish_anew(house, chapter("a"), chapter("b"))
    late = event("late", "chapter_complete", chapterId="b", timestamp=NOON, timeSpent=7)
    assert (await house.send(late))["accepted"] == 1
    seen = await house.progress()
    assert (seen["status"], seen["progress"]) == ("completed", 100)
    [(opened_at, completed_at)] = await house.rows(
        "SELECT opened_at, completed_at FROM enrolment WHERE attempt = 2"
    )
    assert completed_at == opened_at  # an attempt is not finished before it began
    times = "SELECT attempt, time_spent FROM course_progress ORDER BY attempt"
    assert await house.rows(times) == [(1, 67), (2, 0)]


async def test_a_quiz_that_comes_late_is_judged_by_the_version_that_has_it(house: School) -> None:
    await house.publish("fire", chapter("a"))
    await finish(house)
    held = attempt_at_quiz("held", 10, chapterId="q", userId="ada")
    assert (await house.send(held))["quarantined"] == 1
    await publish_anew(house, chapter("a"), quiz("q"), quiz("r"))
    seen = await house.progress()
    assert [each["completed"] for each in seen["chapters"]] == [True, True, False]
    late = attempt_at_quiz("late", 9, chapterId="r", timestamp=NOON)
    assert (await house.send(late))["accepted"] == 1
    seen = await house.progress()
    assert (seen["attempt"], seen["status"]) == (2, "completed")
    assert [each["quiz"] and each["quiz"]["score"] for each in seen["chapters"]] == [None, 1, 0.9]


async def test_a_late_event_finishes_the_newest_attempt_only(house: School) -> None:
    await house.publish("fire", chapter("a"), chapter("b"))
    await finish(house)
    renewed = event("r", "attempt_renewed", chapterId=None, timestamp=NOON)
    await house.send(renewed)
    await house.send(event("2", "chapter_complete", chapterId="b"))
    assert await house.rows("SELECT attempt FROM completion") == [(2,)]
    assert await house.rows("SELECT count(*) FROM job WHERE queue = 'celebrations'") == [(1,)]
    await house.send(
        event("3", "chapter_complete", chapterId="b", timestamp="2026-11-20T08:00:00Z")
    )
    assert await house.rows("SELECT count(*) FROM completion_note") == [(1,)]


async def test_to_renew_finishes_nothing_by_itself(house: School) -> None:
    await house.publish("fire", chapter("a"))
    await finish(house)
    await house.send(event("r", "attempt_renewed", chapterId=None, timestamp=NOON))
    again = event("r2", "attempt_renewed", chapterId=None, timestamp=LATER)
    await house.send(again, event("early", progress=5, timestamp="2026-11-20T10:00:00Z"))
    seen = await house.progress()
    assert (seen["attempt"], seen["progress"], seen["status"]) == (3, 100, "in_progress")
    assert await house.rows("SELECT count(*) FROM completion") == [(1,)]
    await house.send(event("here", "heartbeat", timestamp="2026-11-22T12:00:00Z"))
    assert (await house.progress())["completedAt"] == "2026-11-21T12:00:00.000Z"


async def test_an_attempt_that_is_finished_after_the_next_one_is_superseded(house: School) -> None:
    await house.publish("fire", chapter("a"))
    await house.send(event("r", "progress_reset", chapterId=None, timestamp=NOON))
    await house.send(event("2", "chapter_complete", timestamp=LATER))
    await house.send(event("1", "chapter_complete"))
    chain = (
        "SELECT c.attempt, n.attempt FROM completion AS c"
        " LEFT JOIN completion AS n ON n.id = c.superseded_by ORDER BY 1"
    )
    assert await house.rows(chain) == [(1, 2), (2, None)]


async def test_a_reset_with_a_quiz_opens_an_attempt_like_any_other(house: School) -> None:
    await house.publish("fire", chapter("a"))
    points = {"attemptId": "t", "score": 1, "maxScore": 1}
    odd = {"chapterId": None, "quiz": points, "progress": 100}
    for number, kind in enumerate(("progress_reset", "attempt_renewed", "progress_reset")):
        when = f"2026-11-20T1{number}:00:00Z"
        await house.send(event(kind + when, kind, timestamp=when, **odd))
    assert (await house.progress())["attempt"] == 4
    assert await house.rows("SELECT count(*) FROM quiz_attempt") == [(0,)]


async def test_an_attempt_is_renewed_after_all_that_is_known_of_the_one_before(
    house: School,
) -> None:
    await house.publish("fire", chapter("a"))
    now = house.db.clock.now()
    await finish(house, timestamp=now // 1_000)
    house.db.clock.advance(timedelta(hours=-1))  # as by the clock of another server
    await publish_anew(house, chapter("a"), chapter("b"))
    assert (await house.progress())["progress"] == 50
    rows = "SELECT attempt, satisfied FROM course_progress ORDER BY attempt"
    assert await house.rows(rows) == [(1, 1), (2, 1)]


@pytest.mark.parametrize("noticed", [True, False])
async def test_who_has_expired_is_not_renewed_by_what_is_new(house: School, noticed: bool) -> None:
    await house.publish("fire", chapter("a"), validity="P1D")
    await finish(house)
    house.db.clock.advance(timedelta(days=400))
    if noticed:
        async with house.db.write() as tx:
            await enqueue(tx, ExpireEnrolments())
        await house.work()
    await publish_anew(house, chapter("a"), chapter("b"), validity="P1D")
    assert (await house.progress())["attempt"] == 1


async def test_a_dry_run_counts_who_would_be_asked_again(house: School) -> None:
    await house.publish("fire", chapter("a"))
    for user in ("ann", "ben"):
        await finish(house, user)
    await house.send(event("open", progress=50, userId="cem"))
    for chapters, counts in (
        ([chapter("a"), chapter("b")], {"renewed": 2, "moved": 1, "dropping": 1, "unaffected": 0}),
        ([chapter("a"), chapter("b", required=False)], {"renewed": 0, "moved": 1, "unaffected": 3}),
    ):
        before = await house.tables()
        answer = await house.http.put(
            "/api/v1/courses/fire",
            params={"dryRun": "true"},
            json=course_body(*chapters, learnerPolicy="require_new"),
            headers=SERVICE,
        )
        assert counts.items() <= answer.json().items(), answer.text
        assert await house.tables() == before


async def test_a_manager_may_renew_an_attempt_by_hand(house: School) -> None:
    await house.publish("fire", chapter("a"), chapter("b"))
    await finish(house)
    renewed = event("r", "attempt_renewed", chapterId=None, timestamp=NOON)
    answer = await house.send(renewed, who=ADA)
    assert [each["code"] for each in answer["results"]] == ["forbidden"]
    assert (await house.send(renewed, who=BOSS))["accepted"] == 1
    assert (await house.send(renewed, who=BOSS))["duplicate"] == 1
    await house.send(event("2", progress=10, chapterId="b", timestamp=LATER))
    seen = await house.progress()
    assert (seen["attempt"], seen["progress"]) == (2, 55)
    answer = await house.http.get(
        "/api/v1/courses/fire/progress/history", params={"userId": "ada"}, headers=ADA
    )
    lines = [
        (each["eventType"], each["attempt"], each["courseProgress"])
        for each in answer.json()["items"]
    ]
    assert lines == [
        ("chapter_complete", 1, 50),
        ("attempt_renewed", 2, 50),
        ("chapter_progress", 2, 55),
    ]


async def test_a_waiver_of_the_renewal_s_own_instant_is_the_new_attempt_s(house: School) -> None:
    await house.publish("fire", chapter("a"), chapter("b"))
    waived = {"chapterId": "b", "metadata": {"reason": "Done elsewhere."}}
    late = event("late", "chapter_waived", timestamp=LATER, timeSpent=5, **waived)
    # A chapter's state keeps the earliest waiver only, so nothing of "late" is to be seen in it.
    await house.send(late, event("early", "chapter_waived", timestamp=NOON, **waived))
    await house.send(event("r", "attempt_renewed", chapterId=None, timestamp=LATER))
    rows = await house.rows("SELECT attempt, time_spent FROM course_progress ORDER BY attempt")
    assert rows == [(1, 0), (2, 5)]
