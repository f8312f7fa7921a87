"""What an edit, an enrolment or an approval does to learners, and what was held for want of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.service.progress_school import (
    OPERATOR,
    SERVICE,
    School,
    attempt_at_quiz,
    chapter,
    course_body,
    event,
    quiz,
    school,
)

from homeroom.clock import DAY, to_rfc3339
from homeroom.db.database import Database
from homeroom.progress import quarantine

pytestmark = pytest.mark.anyio
QUARANTINE = "/api/v1/progress/quarantine"


@pytest.fixture
async def house(db: Database) -> AsyncIterator[School]:
    async with school(db) as opened:
        yield opened


async def held(house: School) -> list[tuple[str, str]]:
    answer = await house.http.get(QUARANTINE, headers=OPERATOR)
    assert answer.status_code == 200, answer.text
    return [(each["eventId"], each["reason"]) for each in answer.json()["items"]]


async def test_what_came_before_its_course_is_counted_once_after_publishing(house: School) -> None:
    first = event("1", progress=60, timeSpent=30)
    assert (await house.send(first))["quarantined"] == 1
    assert (await house.send(first))["quarantined"] == 1
    assert await held(house) == [("1", "unknown_course")]
    await house.publish("fire", chapter("b"))
    await house.work()
    assert await held(house) == [("1", "unknown_chapter")]
    await house.publish("fire", chapter("a"), chapter("b"))
    await house.work()
    assert await held(house) == []
    found = await house.progress()
    assert (found["progress"], found["timeSpent"]) == (30, 30)
    assert (await house.send(first))["duplicate"] == 1
    assert (await house.progress())["timeSpent"] == 30


async def test_so_much_is_set_aside_of_a_learner_and_no_more(
    house: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MOST_HELD", 3)
    await house.publish("known", chapter("a"))
    made_up = [event(str(n), courseId=f"made-up-{n}") for n in range(5)]
    found = await house.send(*made_up, event("good", courseId="known", timeSpent=7))
    assert (found["accepted"], found["quarantined"], found["rejected"]) == (1, 3, 2)
    codes = [each["code"] for each in found["results"]]
    assert codes == ["unknown_course"] * 3 + ["quarantine_full"] * 2
    assert [id for id, _ in await held(house)] == ["0", "1", "2"]
    conflicting = event("good", courseId="known", timeSpent=8)
    assert (await house.send(conflicting))["conflict"] == 1
    assert (await house.send(event("ben's", userId="ben", courseId="later")))["quarantined"] == 1
    assert [id for id, _ in await held(house)] == ["0", "1", "2", "ben's"]


async def test_a_replay_by_hand_says_what_became_of_the_events(house: School) -> None:
    await house.publish("closed", chapter("a"), autoEnrol=False)
    await house.send(
        event("1", courseId="later", timeSpent=5),
        event("2", courseId="closed", chapterId="new"),
        event("3", courseId="never"),
    )
    # Without the hook, as where the worker is down for good.
    house.catalogue.on_publish.clear()
    await house.publish("later", chapter("a"))
    await house.send(event("1", courseId="later", timeSpent=6))  # the player changed its mind
    answer = await house.http.post(f"{QUARANTINE}/replay", headers=OPERATOR)
    assert answer.json() == {
        "accepted": 0,
        "duplicate": 0,
        "conflict": 1,
        "held": 1,
        "nextAfter": None,
    }
    assert ("1", "conflict") in await held(house)
    assert (await house.progress(course="later"))["timeSpent"] == 6
    viewer = {"Authorization": "Bearer viewer"}
    assert (await house.http.get(QUARANTINE, headers=viewer)).status_code == 200
    assert (await house.http.post(f"{QUARANTINE}/replay", headers=viewer)).status_code == 403
    learner = {"Authorization": "Bearer learner:ada"}
    assert (await house.http.get(QUARANTINE, headers=learner)).status_code == 403


async def test_an_event_held_for_a_closed_course_counts_once_its_learner_is_enrolled(
    house: School,
) -> None:
    await house.send(event("1", timeSpent=9))
    await house.publish("fire", chapter("a"), autoEnrol=False)
    await house.work()
    assert await held(house) == [("1", "not_enrolled")]
    refused = await house.send(event("2", timeSpent=1))
    assert refused["results"][0]["code"] == "not_enrolled"
    enrolled = await house.http.put("/api/v1/courses/fire/enrolments/ada", headers=SERVICE)
    assert enrolled.status_code == 201
    await house.work()
    assert await held(house) == []
    assert (await house.progress())["timeSpent"] == 9


async def test_what_nobody_asks_for_goes_after_its_time(house: School) -> None:
    from_then = event("1", courseId="never")
    await house.send(from_then)
    house.db.clock.advance(timedelta(days=31))
    await house.send(event("2", courseId="never"))
    from_jobs = await house.jobs.prune(None, None)  # type: ignore[arg-type]  # it reads neither
    assert from_jobs.result == {"pruned": 1}  # type: ignore[union-attr]
    assert await held(house) == [("2", "unknown_course")]


async def test_a_removed_chapter_pushes_nobody_above_100(house: School) -> None:
    await house.publish("fire", chapter("a"), chapter("b"), chapter("c"))
    await house.send(event("1", "chapter_complete"), event("2", "chapter_complete", chapterId="b"))
    assert (await house.progress())["progress"] == 66.66
    await house.publish("fire", chapter("b"), chapter("c"))
    await house.send(event("3", "chapter_complete", timeSpent=7))  # a chapter that is gone
    found = await house.progress()
    assert (found["version"], found["progress"], found["totalChapters"]) == (2, 50, 2)
    assert (found["completedChapters"], found["timeSpent"], found["status"]) == (
        1,
        7,
        "in_progress",
    )
    await house.send(event("4", "chapter_complete", chapterId="c"))
    found = await house.progress()
    assert (found["progress"], found["status"]) == (100, "completed")


async def test_who_has_completed_stays_so_with_its_date_whatever_is_edited(house: School) -> None:
    await house.publish("fire", chapter("a"))
    await house.send(event("1", "chapter_complete", timestamp="2026-11-20T09:00:00Z"))
    done = await house.progress()
    assert done["completedAt"] == "2026-11-20T09:00:00.000Z"
    await house.publish("fire", chapter("a"), chapter("new"), learnerPolicy="now")
    await house.work()
    await house.send(event("2", "chapter_complete", timestamp="2026-11-19T09:00:00Z"))
    await house.send(event("3", "chapter_complete", timestamp="2026-11-21T09:00:00Z"))
    found = await house.progress()
    assert (found["progress"], found["version"], found["newerVersionAvailable"]) == (100, 1, True)
    assert found["completedAt"] == done["completedAt"]
    assert await house.rows("SELECT count(*) FROM completion") == [(1,)]
    assert await house.rows("SELECT count(*) FROM job WHERE queue = 'celebrations'") == [(1,)]
    # Rule B9: that it was done earlier than was known is noted, and nothing else.
    assert await house.rows("SELECT count(*) FROM completion_note") == [(1,)]


async def test_the_policy_now_moves_open_learners_and_never_leaves_them(house: School) -> None:
    for course in ("now", "never"):
        await house.publish(course, chapter("a"), chapter("b"))
        await house.send(event(course, "chapter_complete", courseId=course))
        await house.publish(course, chapter("a"), learnerPolicy=course)
    await house.work()
    moved, stayed = await house.progress(course="now"), await house.progress(course="never")
    assert (moved["version"], moved["progress"], moved["status"]) == (2, 100, "in_progress")
    assert (stayed["version"], stayed["progress"]) == (1, 50)
    assert stayed["newerVersionAvailable"] is True
    await house.send(event("more", "heartbeat", courseId="now", timeSpent=1))
    assert (await house.progress(course="now"))["status"] == "completed"


async def test_an_edit_completes_learners_only_if_the_course_says_so(house: School) -> None:
    await house.publish("fire", chapter("a"), chapter("b"))
    users = [f"u{number:03}" for number in range(450)]  # more than a page
    await house.send(*(event(f"e{user}", "chapter_complete", userId=user) for user in users))
    await house.publish("fire", chapter("a"), learnerPolicy="now", completeOnEdit=True)
    await house.work()
    assert await house.rows("SELECT count(*), min(version) FROM enrolment") == [(450, 2)]
    assert await house.rows("SELECT count(DISTINCT user_id) FROM completion") == [(450,)]
    [(payload,)] = await house.rows("SELECT result FROM job WHERE kind = 'progress.move_learners'")
    assert '"moved":450' in payload.replace(" ", "")


async def test_a_dry_run_counts_what_publishing_then_does(house: School) -> None:
    await house.publish("fire", chapter("a"), chapter("b"))
    await house.send(
        event("1", "chapter_complete", userId="finishes"),
        event("2", "chapter_complete", userId="drops", chapterId="b"),
        event("3", "heartbeat", userId="idle", chapterId=None, timeSpent=1),
        event("4", "chapter_complete", userId="done"),
        event("5", "chapter_complete", userId="done", chapterId="b"),
    )
    body = course_body(chapter("a"), learnerPolicy="now", completeOnEdit=True)
    before = await house.tables()
    answer = await house.http.put(
        "/api/v1/courses/fire", params={"dryRun": "true"}, json=body, headers=SERVICE
    )
    assert answer.status_code == 200, answer.text
    counts = {name: answer.json()[name] for name in ("newlyComplete", "dropping", "unaffected")}
    assert counts == {"newlyComplete": 1, "dropping": 1, "unaffected": 2}
    assert answer.json()["moved"] == 3
    assert await house.tables() == before
    await house.http.put("/api/v1/courses/fire", json=body, headers=SERVICE)
    await house.work()
    assert await house.rows("SELECT user_id FROM completion ORDER BY user_id") == [
        ("done",),
        ("finishes",),
    ]
    assert (await house.progress("drops"))["progress"] == 0


async def test_an_approval_completes_what_waited_for_it(house: School) -> None:
    await house.publish("fire", chapter("a"), criteria={"all": [
        {"type": "all_items"}, {"type": "manual"}]})  # fmt: skip
    await house.send(event("1", "chapter_complete"))
    assert (await house.progress())["status"] == "in_progress"
    assert (await house.progress())["progress"] == 100
    url = "/api/v1/courses/fire/enrolments/ada"
    approved = await house.http.put(url, json={"approved": True}, headers=SERVICE)
    assert approved.json()["status"] == "completed"
    again = await house.http.put(url, json={"approved": True}, headers=SERVICE)
    assert again.json()["completedAt"] == approved.json()["completedAt"]
    assert await house.rows("SELECT count(*) FROM completion") == [(1,)]


async def test_a_finished_prerequisite_finishes_what_waited_for_it_in_the_same_commit(
    house: School,
) -> None:
    def after(course: str) -> dict[str, Any]:
        return {"all": [{"type": "all_items"}, {"type": "prerequisite", "courseId": course}]}

    await house.publish("one", chapter("a"))
    await house.publish("two", chapter("a"), criteria=after("one"))
    await house.publish("three", chapter("a"), criteria=after("two"))
    for course in ("three", "two"):
        await house.send(event(course, "chapter_complete", courseId=course))
        assert (await house.progress(course=course))["status"] == "in_progress"
    await house.send(event("one", "chapter_complete", courseId="one"))
    for course in ("one", "two", "three"):
        assert (await house.progress(course=course))["status"] == "completed"
    assert await house.rows("SELECT count(DISTINCT recorded_at) FROM completion") == [(1,)]
    # A course made of nothing but a prerequisite is complete on being enrolled in.
    await house.publish("bundle", criteria={"type": "prerequisite", "courseId": "three"})
    url = "/api/v1/courses/bundle/enrolments/ada"
    assert (await house.http.put(url, headers=SERVICE)).json()["status"] == "completed"


async def test_a_prerequisite_finishes_a_course_that_its_learner_has_only_enrolled_in(
    house: School,
) -> None:
    await house.publish("fire", chapter("a"))
    await house.publish("bundle", criteria={"type": "prerequisite", "courseId": "fire"})
    url = "/api/v1/courses/bundle/enrolments/ada"
    assert (await house.http.put(url, headers=SERVICE)).json()["status"] == "registered"
    await house.send(event("1", "chapter_complete"))
    assert (await house.progress(course="bundle"))["status"] == "completed"


async def test_time_completes_a_course_that_asks_for_time(house: School) -> None:
    await house.publish("fire", chapter("a"), criteria={"type": "min_time", "seconds": 60})
    await house.send(event("1", "heartbeat", chapterId=None, timeSpent=59))
    assert (await house.progress())["status"] == "in_progress"
    late = to_rfc3339(house.db.clock.now() - DAY)
    await house.send(event("2", "heartbeat", timeSpent=1, timestamp=late))
    found = await house.progress()
    assert (found["status"], found["completedAt"]) == ("completed", late)


async def test_a_quiz_passed_under_the_old_threshold_stays_passed(house: School) -> None:
    await house.publish("fire", quiz("a", 0.5), chapter("b"))
    await house.send(attempt_at_quiz("1", 6))
    await house.publish("fire", quiz("a", 0.9), chapter("b"), learnerPolicy="now")
    await house.work()
    await house.send(attempt_at_quiz("2", 0, timestamp="2026-11-21T09:00:00Z"))
    (first, _) = (await house.progress())["chapters"]
    assert first["quiz"] == {"score": 0.6, "attempts": 2, "passed": True}
    assert first["completed"] is True
