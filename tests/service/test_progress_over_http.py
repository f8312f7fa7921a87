"""Ingest over a real socket, and reads of progress."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from tests.support.api_client import as_
from tests.support.progress_school import (
    ADA,
    OPERATOR,
    SERVICE,
    School,
    attempt_at_quiz,
    chapter,
    event,
    open_school,
    quiz,
)

from homeroom.db.database import Database
from homeroom.http.app import INGEST_PATH
from homeroom.instant import SECOND, from_datetime, to_rfc3339

pytestmark = pytest.mark.anyio
URL = "/api/v1/courses/fire/progress"


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with open_school(db) as opened:
        await opened.publish("fire", chapter("a"), chapter("b"))
        yield opened


async def test_every_event_has_its_own_result(school: School) -> None:
    await school.send(event("old", progress=10))
    answer = await school.send(
        event("new", progress=40, timeSpent=30),
        event("old", progress=10),
        event("old", progress=11),
        event("far", courseId="unknown"),
        event("odd", progress=250),
        event("new", progress=40, timeSpent=30),
    )
    counts = {name: value for name, value in answer.items() if name != "results"}
    assert counts == {
        "accepted": 1,
        "duplicate": 2,
        "conflict": 1,
        "quarantined": 1,
        "rejected": 1,
    }
    found = [(each["id"], each["status"], each.get("code")) for each in answer["results"]]
    assert found == [
        ("old", "duplicate", None),
        ("old", "conflict", "conflict"),
        ("far", "quarantined", "unknown_course"),
        ("odd", "rejected", "invalid_event"),
        ("new", "duplicate", None),
    ]
    assert (await school.progress())["progress"] == 20
    assert (await school.progress())["timeSpent"] == 30
    assert school.statuses == {
        "accepted": 2, "duplicate": 2, "conflict": 1, "quarantined": 1, "rejected": 1
    }  # fmt: skip


async def test_an_id_of_another_learners_event_is_a_conflict_without_details(
    school: School,
) -> None:
    await school.send(event("one", progress=33, timeSpent=77))
    answer = await school.send(
        event("one", userId="bob", progress=33, timeSpent=77), who=as_("learner:bob")
    )
    (line,) = answer["results"]
    assert line["status"] == "conflict"
    assert set(line) == {"id", "status", "code", "message"}
    for secret in ("ada", "33", "77"):
        assert secret not in line["message"]
    assert await school.rows("SELECT user_id FROM course_progress") == [("ada",)]


async def test_a_late_zero_undoes_no_completion(school: School) -> None:
    await school.send(event("done", "chapter_complete"))
    await school.send(event("late", progress=0, timestamp="2026-11-21T09:00:00Z"))
    found = await school.progress()
    assert (found["progress"], found["chapters"][0]["completed"]) == (50, True)


async def test_100_percent_is_shown_only_when_everything_is_done(school: School) -> None:
    await school.send(event("a", "chapter_complete"), event("b", chapterId="b", progress=99.999))
    found = await school.progress()
    assert (found["progress"], found["status"], found["completedAt"]) == (
        99.99,
        "in_progress",
        None,
    )
    await school.send(event("b2", "chapter_complete", chapterId="b"))
    found = await school.progress()
    assert (found["progress"], found["status"]) == (100, "completed")


async def test_a_course_without_measured_chapters_has_no_percentage_and_no_completion(
    school: School,
) -> None:
    await school.publish("empty", chapter("a", required=False))
    await school.send(event("1", "chapter_complete", courseId="empty"))
    found = await school.progress(course="empty")
    assert (found["progress"], found["completedChapters"], found["status"]) == (
        None,
        1,
        "in_progress",
    )


async def test_a_learner_sends_and_reads_its_own_only(school: School) -> None:
    answer = await school.send(event("1", userId="bob", progress=5), who=ADA)
    assert answer["results"][0]["code"] == "forbidden"
    assert (await school.http.get(URL, headers=ADA)).json()["userId"] == "ada"
    for path in (URL, f"{URL}/history"):
        refused = await school.http.get(path, params={"userId": "bob"}, headers=ADA)
        assert refused.status_code == 403
    patched = await school.http.patch(
        URL, json={"userId": "bob", "chapterId": "a", "progress": 5}, headers=ADA
    )
    assert patched.status_code == 403
    assert (await school.http.get("/api/v1/courses/fire/learners", headers=ADA)).status_code == 403
    assert (await school.post(event("2"), who=as_("viewer"))).status_code == 403
    assert await school.rows("SELECT count(*) FROM progress_event") == [(0,)]


async def test_an_untrusted_score_is_stored_and_does_not_count(school: School) -> None:
    await school.publish("fire", quiz("a"))
    answer = await school.send(attempt_at_quiz("1", 10), who=ADA)
    assert answer["accepted"] == 1
    assert answer["results"][0]["code"] == "untrusted_score"
    found = await school.progress()
    assert found["chapters"][0]["quiz"] == {"score": None, "attempts": 0, "passed": False}
    await school.publish("fire", quiz("a"), trustClient=True)
    assert (await school.send(attempt_at_quiz("2", 0), who=ADA))["results"] == []
    found = await school.progress()
    assert found["chapters"][0]["quiz"] == {"score": 0, "attempts": 1, "passed": False}
    await school.send(attempt_at_quiz("3", 8), who=ADA)
    found = await school.progress()
    assert found["chapters"][0]["quiz"] == {"score": 0.8, "attempts": 2, "passed": True}
    assert found["status"] == "completed"
    assert await school.rows("SELECT score FROM completion") == [(8_000,)]


async def test_a_patch_may_be_repeated_with_an_event_id_or_a_key(school: School) -> None:
    body = {"lessonId": "a", "progress": 40, "timeSpent": 20, "eventId": "mine"}
    first = await school.http.patch(URL, json=body, headers=ADA)
    assert first.status_code == 200, first.text
    again = await school.http.patch(URL, json=body, headers=ADA)
    assert again.json() == first.json()
    assert first.json()["timeSpent"] == 20
    other = await school.http.patch(URL, json={**body, "progress": 50}, headers=ADA)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    keyed = {"chapterId": "a", "timeSpent": 5}
    for who in ("ada", "bob"):
        headers = {**as_(f"learner:{who}"), "Idempotency-Key": "1"}
        for _ in range(2):
            answer = await school.http.patch(URL, json=keyed, headers=headers)
            assert answer.status_code == 200
    assert (await school.progress("ada"))["timeSpent"] == 25
    assert (await school.progress("bob"))["timeSpent"] == 5
    done = await school.http.patch(URL, json={"chapterId": "a", "completed": True}, headers=ADA)
    assert done.json()["chapters"][0]["completed"] is True


@pytest.mark.parametrize(
    ("course", "body", "status"),
    [
        ("none", {"chapterId": "a", "progress": 1}, 404),
        ("fire", {"chapterId": "none", "progress": 1}, 404),
        ("closed", {"chapterId": "a", "progress": 1}, 403),
        ("fire", {"progress": 1}, 422),
        ("fire", {"chapterId": "a", "lessonId": "a", "progress": 1}, 422),
        ("fire", {"chapterId": "a"}, 422),
        ("fire", {"chapterId": "a", "progress": 250}, 422),
        ("fire", {"chapterId": "a", "progress": "50"}, 422),
        ("fire", {"chapterId": "a", "progress": True}, 422),
        ("fire", {"chapterId": "a", "timeSpent": -1}, 422),
        ("fire", {"chapterId": "a", "timeSpent": 86_401}, 422),
        ("fire", {"chapterId": "a\n", "progress": 1}, 422),
        ("fire", {"chapterId": "x" * 10_000, "progress": 1}, 422),
        ("fire", {"chapterId": "a", "progress": 1, "colour": "red"}, 422),
        ("fire", [], 422),
    ],
)
async def test_a_refused_patch_changes_nothing(
    school: School, course: str, body: Any, status: int
) -> None:
    await school.publish("closed", chapter("a"), autoEnrol=False)
    before = await school.tables()
    answer = await school.http.patch(f"/api/v1/courses/{course}/progress", json=body, headers=ADA)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.text) < 2_000
    assert await school.tables() == before


async def test_reads_answer_304_until_something_changes(school: School) -> None:
    await school.send(event("1", progress=10))
    for path in (f"{URL}?userId=ada", f"{URL}/history?userId=ada", "/api/v1/courses/fire/learners"):
        who = SERVICE
        first = await school.http.get(path, headers=who)
        tag = {**who, "If-None-Match": first.headers["etag"]}
        again = await school.http.get(path, headers=tag)
        assert (again.status_code, again.content) == (304, b"")
        await school.send(event(f"more {path}", timeSpent=10))
        changed = await school.http.get(path, headers=tag)
        assert changed.status_code == 200


async def test_an_unknown_learner_has_no_status_and_no_progress_and_unknown_courses_are_404(
    school: School,
) -> None:
    found = await school.progress("newcomer")
    assert (found["status"], found["progress"], found["timeSpent"]) == (None, 0, 0)
    assert [each["chapterId"] for each in found["chapters"]] == ["a", "b"]
    await school.publish("closed", chapter("a"), autoEnrol=False)
    for path in (
        "/api/v1/courses/none/progress?userId=ada",
        "/api/v1/courses/none/progress/history?userId=ada",
        "/api/v1/courses/none/learners",
        "/api/v1/courses/closed/progress?userId=ada",
    ):
        assert (await school.http.get(path, headers=SERVICE)).status_code == 404
    assert (await school.http.get(URL, headers=SERVICE)).status_code == 422


async def test_learners_are_paged_and_each_is_shown_once_in_the_latest_attempt(
    school: School,
) -> None:
    users = [f"u{number}" for number in range(5)]
    await school.send(*(event(f"e{user}", userId=user, progress=30) for user in users))
    reset = event("reset", "progress_reset", userId="u1", chapterId=None)
    await school.send({**reset, "timestamp": "2026-11-21T09:00:00Z"})
    seen: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = {"limit": "2"} | ({} if cursor is None else {"cursor": cursor})
        answer = await school.http.get(
            "/api/v1/courses/fire/learners", params=params, headers=OPERATOR
        )
        seen += answer.json()["items"]
        cursor = answer.json()["nextCursor"]
        if cursor is None:
            break
    assert [each["userId"] for each in seen] == users
    assert [(each["attempt"], each["progress"]) for each in seen] == [
        (1, 15), (2, 0), (1, 15), (1, 15), (1, 15)
    ]  # fmt: skip


async def test_the_history_has_the_percentages_after_each_event(school: School) -> None:
    await school.send(event("1", progress=50, timeSpent=10))
    await school.send(event("2", progress=20, timestamp="2099-01-01T00:00:00Z"))
    await school.send(event("3", "chapter_complete", timestamp=0))
    await school.send(event("4", "progress_reset", chapterId=None))
    lines: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        params = {"userId": "ada", "limit": "3"} | ({} if cursor is None else {"cursor": cursor})
        answer = (await school.http.get(f"{URL}/history", params=params, headers=SERVICE)).json()
        lines += answer["items"]
        cursor = answer["nextCursor"]
        if cursor is None:
            break
    found = [(each["eventId"], each["courseProgress"], each["flags"]) for each in lines]
    assert [each[0] for each in found] == ["1", "2", "3", "4"]
    assert lines[1]["flags"] == ["future"]
    assert lines[1]["occurredAt"] == "2099-01-01T00:00:00.000000Z"
    assert lines[2]["flags"] == ["ancient"]
    # The reset at the same time as event 1 opens attempt 2, to which all of them belong.
    assert {each["attempt"] for each in lines} == {2}
    assert [each[1] for each in found] == [25, 25, 50, 50]


async def test_the_document_describes_the_raw_route(school: School) -> None:
    document = (await school.http.get("/openapi.json")).json()
    post = document["paths"][INGEST_PATH]["post"]
    assert set(post["responses"]) == {
        "200", "400", "401", "403", "413", "415", "422", "429", "503", "4XX"
    }  # fmt: skip
    sent = post["requestBody"]["content"]["application/json"]["example"]
    assert (await school.send(*sent["events"]))["quarantined"] == 1


async def test_rejected_events_are_counted_in_a_header_and_unknown_fields_named(
    school: School,
) -> None:
    await school.publish("fire", chapter("a"))
    answer = await school.post(event("1", tempo=1), event("2", "chapter_progres"))
    assert answer.status_code == 200
    assert answer.headers["homeroom-rejected"] == "1"
    found = answer.json()
    assert (found["accepted"], found["rejected"]) == (1, 1)
    assert found["unknownFields"] == ["tempo"]
    assert "homeroom-rejected" not in (await school.post(event("3"))).headers


async def test_a_wrong_clock_is_corrected_and_both_times_are_kept(school: School) -> None:
    await school.publish("fire", chapter("a"))
    now = school.db.clock.now()
    ahead = [to_rfc3339(now + hours * 3_600 * SECOND) for hours in (48, 47)]
    body = {"sentAt": ahead[0], "events": [event("1", timestamp=ahead[1], progress=40)]}
    for expected in ("accepted", "duplicate"):
        answer = await school.http.post(INGEST_PATH, json=body, headers=SERVICE)
        assert answer.json()[expected] == 1, answer.text
    history = await school.http.get(
        "/api/v1/courses/fire/progress/history?userId=ada", headers=SERVICE
    )
    [entry] = history.json()["items"]
    assert entry["flags"] == ["clock_corrected"]
    assert entry["occurredAt"] == ahead[1]
    age = now - from_datetime(datetime.fromisoformat(entry["correctedAt"]))
    assert abs(age - 3_600 * SECOND) < 60 * SECOND
    assert (await school.progress())["lastActivityAt"] == entry["correctedAt"]


async def test_a_learner_reads_why_a_course_is_not_complete_and_all_its_courses(
    school: School,
) -> None:
    await school.publish("fire", chapter("a"), chapter("b"), chapter("c", required=False))
    await school.publish("water", chapter("a"))
    before = (await school.http.get(URL, headers=ADA)).json()
    assert before["unmetCriteria"][0]["chapterIds"] == ["a", "b"]
    await school.send(event("1", "chapter_complete"), event("2", courseId="water", progress=30))
    found = (await school.http.get(URL, headers=ADA)).json()
    assert (found["completedRequired"], found["requiredChapters"]) == (1, 2)
    assert (found["completedChapters"], found["totalChapters"]) == (1, 3)
    assert [(each["title"], each["required"]) for each in found["chapters"]] == [
        ("A", True),
        ("B", True),
        ("C", False),
    ]
    [unmet] = found["unmetCriteria"]
    assert (unmet["type"], unmet["chapterIds"]) == ("all_items", ["b"])
    assert unmet["text"].endswith("Open: B.")
    await school.send(event("3", "chapter_complete", chapterId="b"))
    assert (await school.http.get(URL, headers=ADA)).json()["unmetCriteria"] == []

    url = "/api/v1/people/ada/progress"
    answer = await school.http.get(url, headers=ADA)
    first, second = answer.json()["items"]
    assert (first["courseId"], first["title"], first["status"]) == (
        "fire",
        "Fire safety",
        "completed",
    )
    assert (second["courseId"], second["progress"]) == ("water", 30)
    again = await school.http.get(url, headers={**ADA, "If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    page = (await school.http.get(f"{url}?limit=1", headers=SERVICE)).json()
    rest = await school.http.get(f"{url}?limit=1&cursor={page['nextCursor']}", headers=SERVICE)
    assert [each["courseId"] for each in rest.json()["items"]] == ["water"]
    assert (await school.http.get(url, headers=as_("learner:bob"))).status_code == 403
