"""Edits, enrolments and approvals: effects on learners and on quarantined events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.support.progress_school import (
    OPERATOR,
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
from homeroom.instant import DAY, to_rfc3339
from homeroom.progress import quarantine

pytestmark = pytest.mark.anyio
QUARANTINE = "/api/v1/progress/quarantine"


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with open_school(db) as opened:
        yield opened


async def held(school: School) -> list[tuple[str, str]]:
    answer = await school.http.get(QUARANTINE, headers=OPERATOR)
    assert answer.status_code == 200, answer.text
    return [(each["eventId"], each["reason"]) for each in answer.json()["items"]]


async def test_events_before_their_course_count_once_after_publishing(school: School) -> None:
    first = event("1", progress=60, timeSpent=30)
    assert (await school.send(first))["quarantined"] == 1
    assert (await school.send(first))["quarantined"] == 1
    assert await held(school) == [("1", "unknown_course")]
    await school.publish("fire", chapter("b"))
    await school.work()
    assert await held(school) == [("1", "unknown_chapter")]
    await school.publish("fire", chapter("a"), chapter("b"))
    await school.work()
    assert await held(school) == []
    found = await school.progress()
    assert (found["progress"], found["timeSpent"]) == (30, 30)
    assert (await school.send(first))["duplicate"] == 1
    assert (await school.progress())["timeSpent"] == 30


async def test_the_quarantine_of_a_learner_is_bounded(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MAX_QUARANTINED_PER_LEARNER", 3)
    await school.publish("known", chapter("a"))
    made_up = [event(str(n), courseId=f"made-up-{n}") for n in range(5)]
    found = await school.send(*made_up, event("good", courseId="known", timeSpent=7))
    assert (found["accepted"], found["quarantined"], found["rejected"]) == (1, 3, 2)
    codes = [each["code"] for each in found["results"]]
    assert codes == ["unknown_course"] * 3 + ["quarantine_full"] * 2
    assert [id for id, _ in await held(school)] == ["0", "1", "2"]
    conflicting = event("good", courseId="known", timeSpent=8)
    assert (await school.send(conflicting))["conflict"] == 1
    assert (await school.send(event("ben's", userId="ben", courseId="later")))["quarantined"] == 1
    assert [id for id, _ in await held(school)] == ["0", "1", "2", "ben's"]


async def test_a_replay_by_hand_counts_the_results_of_events(school: School) -> None:
    await school.publish("closed", chapter("a"), autoEnrol=False)
    await school.send(
        event("1", courseId="later", timeSpent=5),
        event("2", courseId="closed", chapterId="new"),
        event("3", courseId="never"),
    )
    # Without the hook, as if no worker ran.
    school.catalogue.on_publish.clear()
    await school.publish("later", chapter("a"))
    await school.send(
        event("1", courseId="later", timeSpent=6)
    )  # the player sent another body meanwhile
    answer = await school.http.post(f"{QUARANTINE}/replay", headers=OPERATOR)
    assert answer.json() == {
        "accepted": 0,
        "duplicate": 0,
        "conflict": 1,
        "held": 1,
        "nextAfter": None,
    }
    assert ("1", "conflict") in await held(school)
    assert (await school.progress(course="later"))["timeSpent"] == 6
    viewer = {"Authorization": "Bearer viewer"}
    assert (await school.http.get(QUARANTINE, headers=viewer)).status_code == 200
    assert (await school.http.post(f"{QUARANTINE}/replay", headers=viewer)).status_code == 403
    learner = {"Authorization": "Bearer learner:ada"}
    assert (await school.http.get(QUARANTINE, headers=learner)).status_code == 403


async def test_a_quarantined_event_of_a_closed_course_counts_once_after_enrolment(
    school: School,
) -> None:
    await school.send(event("1", timeSpent=9))
    await school.publish("fire", chapter("a"), autoEnrol=False)
    await school.work()
    assert await held(school) == [("1", "not_enrolled")]
    refused = await school.send(event("2", timeSpent=1))
    assert refused["results"][0]["code"] == "not_enrolled"
    enrolled = await school.http.put("/api/v1/courses/fire/enrolments/ada", headers=SERVICE)
    assert enrolled.status_code == 201
    await school.work()
    assert await held(school) == []
    assert (await school.progress())["timeSpent"] == 9


async def test_quarantined_events_are_pruned_after_their_time_to_live(school: School) -> None:
    from_then = event("1", courseId="never")
    await school.send(from_then)
    school.db.clock.advance(timedelta(days=31))
    await school.send(event("2", courseId="never"))
    from_jobs = await school.jobs.prune_quarantine(None, None)  # type: ignore[arg-type]  # unused
    assert from_jobs.result == {"pruned": 1}  # type: ignore[union-attr]
    assert await held(school) == [("2", "unknown_course")]


async def test_a_removed_chapter_raises_no_percentage_above_100(school: School) -> None:
    await school.publish("fire", chapter("a"), chapter("b"), chapter("c"))
    await school.send(event("1", "chapter_complete"), event("2", "chapter_complete", chapterId="b"))
    assert (await school.progress())["progress"] == 66.66
    await school.publish("fire", chapter("b"), chapter("c"))
    await school.send(event("3", "chapter_complete", timeSpent=7))  # a chapter that is gone
    found = await school.progress()
    assert (found["version"], found["progress"], found["totalChapters"]) == (2, 50, 2)
    assert (found["completedChapters"], found["timeSpent"], found["status"]) == (
        1,
        7,
        "in_progress",
    )
    await school.send(event("4", "chapter_complete", chapterId="c"))
    found = await school.progress()
    assert (found["progress"], found["status"]) == (100, "completed")


async def test_a_completion_and_its_date_survive_every_edit(school: School) -> None:
    await school.publish("fire", chapter("a"))
    await school.send(event("1", "chapter_complete", timestamp="2026-11-20T09:00:00Z"))
    done = await school.progress()
    assert done["completedAt"] == "2026-11-20T09:00:00.000000Z"
    await school.publish("fire", chapter("a"), chapter("new"), learnerPolicy="now")
    await school.work()
    await school.send(event("2", "chapter_complete", timestamp="2026-11-19T09:00:00Z"))
    await school.send(event("3", "chapter_complete", timestamp="2026-11-21T09:00:00Z"))
    found = await school.progress()
    assert (found["progress"], found["version"], found["newerVersionAvailable"]) == (100, 1, True)
    assert found["completedAt"] == done["completedAt"]
    assert await school.rows("SELECT count(*) FROM completion") == [(1,)]
    assert await school.rows("SELECT count(*) FROM job WHERE queue = 'celebrations'") == [(1,)]
    # Rule B9: an earlier completion gets an audit line, and changes nothing else.
    assert await school.rows("SELECT count(*) FROM completion_note") == [(1,)]


async def test_the_policy_now_moves_open_learners_and_never_does_not(school: School) -> None:
    for course in ("now", "never"):
        await school.publish(course, chapter("a"), chapter("b"))
        await school.send(event(course, "chapter_complete", courseId=course))
        await school.publish(course, chapter("a"), learnerPolicy=course)
    await school.work()
    moved, stayed = await school.progress(course="now"), await school.progress(course="never")
    assert (moved["version"], moved["progress"], moved["status"]) == (2, 100, "in_progress")
    assert (stayed["version"], stayed["progress"]) == (1, 50)
    assert stayed["newerVersionAvailable"] is True
    await school.send(event("more", "heartbeat", courseId="now", timeSpent=1))
    assert (await school.progress(course="now"))["status"] == "completed"


async def test_an_edit_completes_learners_only_with_complete_on_edit(school: School) -> None:
    await school.publish("fire", chapter("a"), chapter("b"))
    users = [f"u{number:03}" for number in range(450)]  # more than a page
    await school.send(*(event(f"e{user}", "chapter_complete", userId=user) for user in users))
    await school.publish("fire", chapter("a"), learnerPolicy="now", completeOnEdit=True)
    await school.work()
    assert await school.rows("SELECT count(*), min(version) FROM enrolment") == [(450, 2)]
    assert await school.rows("SELECT count(DISTINCT user_id) FROM completion") == [(450,)]
    [(payload,)] = await school.rows("SELECT result FROM job WHERE kind = 'progress.move_learners'")
    assert '"moved":450' in payload.replace(" ", "")


async def test_a_dry_run_counts_what_publishing_then_does(school: School) -> None:
    await school.publish("fire", chapter("a"), chapter("b"))
    await school.send(
        event("1", "chapter_complete", userId="finishes"),
        event("2", "chapter_complete", userId="drops", chapterId="b"),
        event("3", "heartbeat", userId="idle", chapterId=None, timeSpent=1),
        event("4", "chapter_complete", userId="done"),
        event("5", "chapter_complete", userId="done", chapterId="b"),
    )
    body = course_body(chapter("a"), learnerPolicy="now", completeOnEdit=True)
    before = await school.tables()
    answer = await school.http.put(
        "/api/v1/courses/fire", params={"dryRun": "true"}, json=body, headers=SERVICE
    )
    assert answer.status_code == 200, answer.text
    counts = {name: answer.json()[name] for name in ("newlyComplete", "dropping", "unaffected")}
    assert counts == {"newlyComplete": 1, "dropping": 1, "unaffected": 2}
    assert answer.json()["moved"] == 3
    assert await school.tables() == before
    await school.http.put("/api/v1/courses/fire", json=body, headers=SERVICE)
    await school.work()
    assert await school.rows("SELECT user_id FROM completion ORDER BY user_id") == [
        ("done",),
        ("finishes",),
    ]
    assert (await school.progress("drops"))["progress"] == 0


async def test_an_approval_completes_a_waiting_course(school: School) -> None:
    await school.publish("fire", chapter("a"), criteria={"all": [
        {"type": "all_items"}, {"type": "manual"}]})  # fmt: skip
    await school.send(event("1", "chapter_complete"))
    assert (await school.progress())["status"] == "in_progress"
    assert (await school.progress())["progress"] == 100
    url = "/api/v1/courses/fire/enrolments/ada"
    approved = await school.http.put(url, json={"approved": True}, headers=SERVICE)
    assert approved.json()["status"] == "completed"
    again = await school.http.put(url, json={"approved": True}, headers=SERVICE)
    assert again.json()["completedAt"] == approved.json()["completedAt"]
    assert await school.rows("SELECT count(*) FROM completion") == [(1,)]


async def test_a_completed_prerequisite_completes_dependents_in_the_same_commit(
    school: School,
) -> None:
    def after(course: str) -> dict[str, Any]:
        return {"all": [{"type": "all_items"}, {"type": "prerequisite", "courseId": course}]}

    await school.publish("one", chapter("a"))
    await school.publish("two", chapter("a"), criteria=after("one"))
    await school.publish("three", chapter("a"), criteria=after("two"))
    for course in ("three", "two"):
        await school.send(event(course, "chapter_complete", courseId=course))
        assert (await school.progress(course=course))["status"] == "in_progress"
    await school.send(event("one", "chapter_complete", courseId="one"))
    for course in ("one", "two", "three"):
        assert (await school.progress(course=course))["status"] == "completed"
    # Each in a commit is a microsecond later than the one before.
    assert await school.rows("SELECT max(recorded_at) - min(recorded_at) FROM completion") == [(2,)]
    # A course of a prerequisite alone is complete upon enrolment.
    await school.publish("bundle", criteria={"type": "prerequisite", "courseId": "three"})
    url = "/api/v1/courses/bundle/enrolments/ada"
    assert (await school.http.put(url, headers=SERVICE)).json()["status"] == "completed"


async def test_a_prerequisite_completes_a_course_without_events(
    school: School,
) -> None:
    await school.publish("fire", chapter("a"))
    await school.publish("bundle", criteria={"type": "prerequisite", "courseId": "fire"})
    url = "/api/v1/courses/bundle/enrolments/ada"
    assert (await school.http.put(url, headers=SERVICE)).json()["status"] == "registered"
    await school.send(event("1", "chapter_complete"))
    assert (await school.progress(course="bundle"))["status"] == "completed"


async def test_time_spent_completes_a_course_with_min_time(school: School) -> None:
    await school.publish("fire", chapter("a"), criteria={"type": "min_time", "seconds": 60})
    await school.send(event("1", "heartbeat", chapterId=None, timeSpent=59))
    assert (await school.progress())["status"] == "in_progress"
    late = to_rfc3339(school.db.clock.now() - DAY)
    await school.send(event("2", "heartbeat", timeSpent=1, timestamp=late))
    found = await school.progress()
    assert (found["status"], found["completedAt"]) == ("completed", late)


async def test_a_quiz_passed_under_the_old_threshold_stays_passed(school: School) -> None:
    await school.publish("fire", quiz("a", 0.5), chapter("b"))
    await school.send(attempt_at_quiz("1", 6))
    await school.publish("fire", quiz("a", 0.9), chapter("b"), learnerPolicy="now")
    await school.work()
    await school.send(attempt_at_quiz("2", 0, timestamp="2026-11-21T09:00:00Z"))
    (first, _) = (await school.progress())["chapters"]
    assert first["quiz"] == {"score": 0.6, "attempts": 2, "passed": True}
    assert first["completed"] is True
