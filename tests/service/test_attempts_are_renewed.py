"""Renewed attempts for new requirements of completed courses (B11, B12)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.support.api_client import as_
from tests.support.progress_school import (
    ADA,
    SERVICE,
    School,
    attempt_at_quiz,
    chapter,
    course_body,
    event,
    open_school,
    quiz,
)

from homeroom.db.database import Database
from homeroom.jobs.api import enqueue
from homeroom.people import api as people
from homeroom.people.api import Person
from homeroom.progress import jobs
from homeroom.progress.api import ExpireEnrolments

pytestmark = pytest.mark.anyio
BOSS = as_("manager:boss")
NOON = "2026-11-20T12:00:00Z"
LATER = "2026-11-21T12:00:00Z"


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with open_school(db) as opened:
        yield opened


async def publish_anew(school: School, *chapters: dict[str, Any], **more: Any) -> None:
    """Publish an edit with ``require_new``, and run its jobs."""
    await school.publish("fire", *chapters, **{"learnerPolicy": "require_new", **more})
    await school.work()


async def finish(school: School, user: str = "ada", **more: Any) -> None:
    done = event(f"a of {user}", "chapter_complete", userId=user, timeSpent=60, **more)
    assert (await school.send(done))["accepted"] == 1


def shown(seen: dict[str, Any]) -> list[tuple[str, float, bool, int]]:
    return [
        (each["chapterId"], each["progress"], each["completed"], each["timeSpent"])
        for each in seen["chapters"]
    ]


async def test_an_edit_renews_completed_attempts_for_what_is_new(school: School) -> None:
    await school.publish("fire", chapter("a"))
    await finish(school)
    await publish_anew(school, chapter("a"), chapter("new"))
    seen = await school.progress()
    assert (seen["attempt"], seen["version"], seen["status"]) == (2, 2, "in_progress")
    assert (seen["progress"], seen["completedAt"], seen["timeSpent"]) == (50, None, 0)
    assert shown(seen) == [("a", 100, True, 0), ("new", 0, False, 0)]
    assert seen["chapters"][0]["lastWatchedAt"] == "2026-11-20T09:00:00.000000Z"
    # The first attempt is unchanged: completed, with its date.
    first = "SELECT status, version FROM enrolment WHERE attempt = 1"
    assert await school.rows(first) == [("completed", 1)]
    now = school.db.clock.now() // 1_000
    await school.send(event("2", "chapter_complete", chapterId="new", timestamp=now, timeSpent=5))
    done = await school.progress()
    assert (done["status"], done["progress"], done["timeSpent"]) == ("completed", 100, 5)
    attempts = "SELECT attempt, superseded_by IS NULL FROM completion ORDER BY attempt"
    assert [(n, bool(last)) for n, last in await school.rows(attempts)] == [(1, False), (2, True)]
    assert await school.rows("SELECT count(*) FROM job WHERE queue = 'celebrations'") == [(2,)]


async def test_a_learner_who_fulfils_the_new_version_is_not_renewed(school: School) -> None:
    await school.publish("fire", chapter("a"), chapter("b", required=False))
    await school.send(event("b", "chapter_complete", chapterId="b"))
    for user in ("ada", "bob"):
        await finish(school, user)
    await publish_anew(school, chapter("a"), chapter("b"))
    seen = await school.progress()
    assert (seen["attempt"], seen["version"], seen["status"]) == (1, 1, "completed")
    assert seen["newerVersionAvailable"] is True
    assert (await school.progress("bob"))["attempt"] == 2


async def test_open_learners_move_at_once_and_keep_their_attempt(school: School) -> None:
    await school.publish("fire", chapter("a"), chapter("b"))
    await finish(school)
    await publish_anew(school, chapter("a"), chapter("b"), chapter("c"))
    seen = await school.progress()
    assert (seen["attempt"], seen["version"], seen["progress"]) == (1, 2, 33.33)
    [(result,)] = await school.rows("SELECT result FROM job WHERE kind = 'progress.move_learners'")
    assert result.replace(" ", "") == '{"moved":1,"finished":0,"renewed":0}'


async def test_every_edit_renews_each_learner_once(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOVE_PAGE", 2)
    await school.publish("fire", chapter("a"))
    for user in ("ann", "ben", "cem", "dia", "eva"):
        await finish(school, user)
    await publish_anew(school, chapter("a"), chapter("b"))
    now = school.db.clock.now() // 1_000
    done = {"chapterId": "b", "timestamp": now}
    await school.send(event("b of ann", "chapter_complete", userId="ann", **done))
    await publish_anew(school, chapter("a"), chapter("b"), chapter("c"))
    newest = await school.rows(
        "SELECT user_id, max(attempt), max(version) FROM enrolment GROUP BY user_id ORDER BY 1"
    )
    assert newest == [("ann", 3, 3), *((user, 2, 3) for user in ("ben", "cem", "dia", "eva"))]
    assert (await school.progress("ann"))["progress"] == 66.66
    renewals = "SELECT count(*) FROM progress_event WHERE type = 'attempt_renewed'"
    assert await school.rows(renewals) == [(6,)]


async def test_passed_quizzes_and_waivers_are_carried_over(school: School) -> None:
    grade = {
        "criteria": {"all": [{"type": "all_items"}, {"type": "min_course_grade", "grade": 0.8}]}
    }
    await school.publish("fire", quiz("a"), chapter("b"), **grade)
    waived = event("w", "chapter_waived", chapterId="b", metadata={"reason": "Done elsewhere."})
    await school.send(attempt_at_quiz("1", 9), waived)
    assert (await school.progress())["status"] == "completed"
    await publish_anew(school, quiz("a"), chapter("b"), chapter("new"), **grade)
    seen = await school.progress()
    assert [each["completed"] for each in seen["chapters"]] == [True, True, False]
    assert seen["chapters"][0]["quiz"] == {"score": 0.9, "attempts": 1, "passed": True}
    now = school.db.clock.now() // 1_000
    await school.send(event("2", "chapter_complete", chapterId="new", timestamp=now))
    assert (await school.progress())["status"] == "completed"


async def test_a_renewed_attempt_needs_approval_and_time_again(school: School) -> None:
    both = {"criteria": {"all": [{"type": "min_time", "seconds": 60}, {"type": "manual"}]}}
    await school.publish("fire", chapter("a"), **both)
    await finish(school)
    path = "/api/v1/courses/fire/enrolments/ada"
    await school.http.put(path, json={"approved": True}, headers=SERVICE)
    assert (await school.progress())["status"] == "completed"
    await publish_anew(school, chapter("a"), title="Fire safety, with a better title", **both)
    assert (await school.progress())["attempt"] == 1
    items = {"criteria": {"all": [{"type": "all_items"}, *both["criteria"]["all"]]}}
    await publish_anew(school, chapter("a"), chapter("b"), **items)
    now = school.db.clock.now() // 1_000
    await school.send(event("2", "chapter_complete", chapterId="b", timeSpent=60, timestamp=now))
    seen = await school.progress()
    assert (seen["attempt"], seen["status"], seen["timeSpent"]) == (2, "in_progress", 60)
    await school.http.put(path, json={"approved": True}, headers=SERVICE)
    assert (await school.progress())["status"] == "completed"


async def test_an_edit_without_requirements_renews_no_attempt(school: School) -> None:
    await school.publish("fire", chapter("a"))
    await finish(school)
    await publish_anew(school, chapter("a", required=False))
    assert (await school.progress())["attempt"] == 1


async def test_late_events_of_the_old_attempt_count_in_the_new_one(school: School) -> None:
    await school.publish("fire", chapter("a"), chapter("b", required=False))
    await finish(school)
    await publish_anew(school, chapter("a"), chapter("b"))
    late = event("late", "chapter_complete", chapterId="b", timestamp=NOON, timeSpent=7)
    assert (await school.send(late))["accepted"] == 1
    seen = await school.progress()
    assert (seen["status"], seen["progress"]) == ("completed", 100)
    [(opened_at, completed_at)] = await school.rows(
        "SELECT opened_at, completed_at FROM enrolment WHERE attempt = 2"
    )
    assert completed_at == opened_at  # an attempt is not finished before it began
    times = "SELECT attempt, time_spent FROM course_progress ORDER BY attempt"
    assert await school.rows(times) == [(1, 67), (2, 0)]


async def test_a_late_quiz_has_the_threshold_of_the_version_with_its_chapter(
    school: School,
) -> None:
    await school.publish("fire", chapter("a"))
    await finish(school)
    held = attempt_at_quiz("held", 10, chapterId="q", userId="ada")
    assert (await school.send(held))["quarantined"] == 1
    await publish_anew(school, chapter("a"), quiz("q"), quiz("r"))
    seen = await school.progress()
    assert [each["completed"] for each in seen["chapters"]] == [True, True, False]
    late = attempt_at_quiz("late", 9, chapterId="r", timestamp=NOON)
    assert (await school.send(late))["accepted"] == 1
    seen = await school.progress()
    assert (seen["attempt"], seen["status"]) == (2, "completed")
    assert [each["quiz"] and each["quiz"]["score"] for each in seen["chapters"]] == [None, 1, 0.9]


async def test_a_late_event_finishes_the_newest_attempt_only(school: School) -> None:
    await school.publish("fire", chapter("a"), chapter("b"))
    await finish(school)
    renewed = event("r", "attempt_renewed", chapterId=None, timestamp=NOON)
    await school.send(renewed)
    await school.send(event("2", "chapter_complete", chapterId="b"))
    assert await school.rows("SELECT attempt FROM completion") == [(2,)]
    assert await school.rows("SELECT count(*) FROM job WHERE queue = 'celebrations'") == [(1,)]
    await school.send(
        event("3", "chapter_complete", chapterId="b", timestamp="2026-11-20T08:00:00Z")
    )
    assert await school.rows("SELECT count(*) FROM completion_note") == [(1,)]


async def test_renewing_completes_nothing_by_itself(school: School) -> None:
    await school.publish("fire", chapter("a"))
    await finish(school)
    await school.send(event("r", "attempt_renewed", chapterId=None, timestamp=NOON))
    again = event("r2", "attempt_renewed", chapterId=None, timestamp=LATER)
    await school.send(again, event("early", progress=5, timestamp="2026-11-20T10:00:00Z"))
    seen = await school.progress()
    assert (seen["attempt"], seen["progress"], seen["status"]) == (3, 100, "in_progress")
    assert await school.rows("SELECT count(*) FROM completion") == [(1,)]
    await school.send(event("here", "heartbeat", timestamp="2026-11-22T12:00:00Z"))
    assert (await school.progress())["completedAt"] == "2026-11-21T12:00:00.000000Z"


async def test_an_attempt_that_is_finished_after_the_next_one_is_superseded(school: School) -> None:
    await school.publish("fire", chapter("a"))
    await school.send(event("r", "progress_reset", chapterId=None, timestamp=NOON))
    await school.send(event("2", "chapter_complete", timestamp=LATER))
    await school.send(event("1", "chapter_complete"))
    chain = (
        "SELECT c.attempt, n.attempt FROM completion AS c"
        " LEFT JOIN completion AS n ON n.id = c.superseded_by ORDER BY 1"
    )
    assert await school.rows(chain) == [(1, 2), (2, None)]


async def test_a_reset_with_a_quiz_opens_an_attempt_like_any_other(school: School) -> None:
    await school.publish("fire", chapter("a"))
    points = {"attemptId": "t", "score": 1, "maxScore": 1}
    odd = {"chapterId": None, "quiz": points, "progress": 100}
    for number, kind in enumerate(("progress_reset", "attempt_renewed", "progress_reset")):
        when = f"2026-11-20T1{number}:00:00Z"
        await school.send(event(kind + when, kind, timestamp=when, **odd))
    assert (await school.progress())["attempt"] == 4
    assert await school.rows("SELECT count(*) FROM quiz_attempt") == [(0,)]


async def test_a_renewal_is_later_than_every_known_event_of_the_attempt_before(
    school: School,
) -> None:
    await school.publish("fire", chapter("a"))
    now = school.db.clock.now()
    await finish(school, timestamp=now // 1_000)
    school.db.clock.advance(timedelta(hours=-1))  # as by the clock of another server
    await publish_anew(school, chapter("a"), chapter("b"))
    assert (await school.progress())["progress"] == 50
    rows = "SELECT attempt, satisfied FROM course_progress ORDER BY attempt"
    assert await school.rows(rows) == [(1, 1), (2, 1)]


@pytest.mark.parametrize("noticed", [True, False])
async def test_an_expired_completion_is_not_renewed(school: School, noticed: bool) -> None:
    await school.publish("fire", chapter("a"), validity="P1D")
    await finish(school)
    school.db.clock.advance(timedelta(days=400))
    if noticed:
        async with school.db.write() as tx:
            await enqueue(tx, ExpireEnrolments())
        await school.work()
    await publish_anew(school, chapter("a"), chapter("b"), validity="P1D")
    assert (await school.progress())["attempt"] == 1


async def test_a_dry_run_counts_the_learners_to_renew(school: School) -> None:
    await school.publish("fire", chapter("a"))
    for user in ("ann", "ben"):
        await finish(school, user)
    await school.send(event("open", progress=50, userId="cem"))
    for chapters, counts in (
        ([chapter("a"), chapter("b")], {"renewed": 2, "moved": 1, "dropping": 1, "unaffected": 0}),
        ([chapter("a"), chapter("b", required=False)], {"renewed": 0, "moved": 1, "unaffected": 3}),
    ):
        before = await school.tables()
        answer = await school.http.put(
            "/api/v1/courses/fire",
            params={"dryRun": "true"},
            json=course_body(*chapters, learnerPolicy="require_new"),
            headers=SERVICE,
        )
        assert counts.items() <= answer.json().items(), answer.text
        assert await school.tables() == before


async def test_a_manager_may_renew_an_attempt_by_hand(school: School) -> None:
    await school.publish("fire", chapter("a"), chapter("b"))
    await finish(school)
    renewed = event("r", "attempt_renewed", chapterId=None, timestamp=NOON)
    answer = await school.send(renewed, who=ADA)
    assert [each["code"] for each in answer["results"]] == ["forbidden"]
    answer = await school.send(renewed, who=BOSS)
    assert [each["code"] for each in answer["results"]] == ["forbidden"]
    async with school.db.write() as tx:
        await people.put(tx, Person("ada", None, "Ada", "Stone", manager_id="boss"))
    assert (await school.send(renewed, who=BOSS))["accepted"] == 1
    assert (await school.send(renewed, who=BOSS))["duplicate"] == 1
    await school.send(event("2", progress=10, chapterId="b", timestamp=LATER))
    seen = await school.progress()
    assert (seen["attempt"], seen["progress"]) == (2, 55)
    answer = await school.http.get(
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


async def test_a_waiver_of_the_renewal_s_own_instant_is_the_new_attempt_s(school: School) -> None:
    await school.publish("fire", chapter("a"), chapter("b"))
    waived = {"chapterId": "b", "metadata": {"reason": "Done elsewhere."}}
    late = event("late", "chapter_waived", timestamp=LATER, timeSpent=5, **waived)
    # A chapter's state has the earliest waiver only, and not "late".
    await school.send(late, event("early", "chapter_waived", timestamp=NOON, **waived))
    await school.send(event("r", "attempt_renewed", chapterId=None, timestamp=LATER))
    rows = await school.rows("SELECT attempt, time_spent FROM course_progress ORDER BY attempt")
    assert rows == [(1, 0), (2, 5)]
