"""A manager waives a chapter for a learner, with a reason (rule B6)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.api_client import as_
from tests.support.progress_school import ADA, SERVICE, School, chapter, event, open_school, quiz

from homeroom.db.database import Database
from homeroom.people import api as people
from homeroom.people.api import Person
from homeroom.web.identity import SESSION_COOKIE

pytestmark = pytest.mark.anyio
BOSS = as_("manager:boss")
REASON = "Passed the same test at the last employer."


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with open_school(db) as opened:
        await opened.publish("fire", chapter("a"), quiz("b"), chapter("c", required=False))
        yield opened


def waiver(id: str, chapter_id: str = "b", **more: Any) -> dict[str, Any]:
    return event(
        id, "chapter_waived", **{"chapterId": chapter_id, "metadata": {"reason": REASON}, **more}
    )


async def test_a_waived_chapter_counts_in_full_and_may_finish_the_course(school: School) -> None:
    await school.send(event("1", progress=50, timestamp="2026-11-20T09:00:00Z"))
    points = {"attemptId": "t", "score": 10, "maxScore": 10}
    sent = waiver("w", timestamp="2026-11-20T10:00:00Z", progress=100, quiz=points)
    answer = await school.send(sent, who=SERVICE)
    assert answer["accepted"] == 1
    seen = await school.progress()
    assert (seen["progress"], seen["status"]) == (75, "in_progress")
    assert (
        seen["lastActivityAt"] == "2026-11-20T09:00:00.000000Z"
    )  # a waiver is no activity of the learner
    found = [(each["progress"], each["completed"]) for each in seen["chapters"]]
    assert found == [(50, False), (100, True), (0, False)]
    assert seen["chapters"][1]["lastWatchedAt"] is None
    assert seen["chapters"][1]["quiz"] == {"score": None, "attempts": 0, "passed": False}
    await school.send(event("2", "chapter_complete", timestamp="2026-11-20T09:30:00Z"))
    done = await school.progress()
    assert (done["status"], done["progress"]) == ("completed", 100)
    assert done["completedAt"] == "2026-11-20T10:00:00.000000Z"


async def test_the_history_has_the_reason(school: School) -> None:
    await school.send(event("1", progress=50), waiver("w"))
    answer = await school.http.get(
        "/api/v1/courses/fire/progress/history", params={"userId": "ada"}, headers=ADA
    )
    lines = answer.json()["items"]
    assert [(each["eventType"], each["reason"]) for each in lines] == [
        ("chapter_progress", None),
        ("chapter_waived", REASON),
    ]
    assert [each["courseProgress"] for each in lines] == [25, 75]
    assert lines[1]["chapterProgress"] == 100


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"reason": ""}, {"reason": "  "}, {"reason": 7}, {"reason": "x" * 501}, ["reason"]],
)
async def test_without_a_reason_nothing_is_waived(school: School, metadata: Any) -> None:
    answer = await school.send(waiver("w", metadata=metadata))
    assert [each["code"] for each in answer["results"]] == ["reason_required"]
    assert await school.rows("SELECT count(*) FROM progress_event") == [(0,)]


async def test_rights_to_waive(school: School) -> None:
    answer = await school.send(waiver("own"), waiver("other", userId="bob"), who=ADA)
    assert [each["code"] for each in answer["results"]] == ["forbidden", "forbidden"]
    by_boss = [waiver("stranger"), waiver("unknown", userId="zoe"), waiver("self", userId="boss")]
    answer = await school.send(*by_boss, who=BOSS)
    assert [each["code"] for each in answer["results"]] == ["forbidden"] * 3
    assert len({each["message"] for each in answer["results"]}) == 1
    assert await school.rows("SELECT count(*) FROM progress_event") == [(0,)]
    async with school.db.write() as tx:
        await people.put(tx, Person("ada", None, "Ada", "Stone", manager_id="boss"))
    answer = await school.send(*by_boss, who=BOSS)
    assert (answer["accepted"], answer["rejected"]) == (1, 2)
    assert (await school.send(waiver("by service"), who=SERVICE))["accepted"] == 1


async def test_acts_by_events_are_audited_with_actor_and_reason(school: School) -> None:
    async with school.db.write() as tx:
        await people.put(tx, Person("ada", None, "Ada", "Stone", manager_id="boss"))
    reset = event("r", "progress_reset", chapterId=None, metadata={"reason": "Started over."})
    renewal = event("n", "attempt_renewed", chapterId=None)
    acts = [waiver("w"), waiver("foreign", userId="zoe"), reset, waiver("q", "new")]
    answer = await school.send(*acts, event("own", userId="boss"), who=BOSS)
    assert (answer["accepted"], answer["quarantined"], answer["rejected"]) == (3, 1, 1)
    await school.send(*acts, who=BOSS)  # a repeat is no act, but a quarantined one is sent anew
    await school.send(event("1", progress=50), renewal, who=SERVICE)
    await school.send(event("2", progress=60), who=ADA)
    audited = await school.rows("SELECT actor, action, subject, details FROM audit ORDER BY id")
    assert [(*entry[:3], json.loads(entry[3])) for entry in audited] == [
        ("boss", "chapter.waived", "ada",
         {"courseId": "fire", "chapterId": "b", "eventId": "w", "reason": REASON}),
        ("boss", "progress.reset", "ada",
         {"courseId": "fire", "eventId": "r", "reason": "Started over."}),
        *[("boss", "chapter.waived", "ada",
           {"courseId": "fire", "chapterId": "new", "eventId": "q", "reason": REASON,
            "status": "quarantined"})] * 2,
        ("key service", "attempt.renewed", "ada", {"courseId": "fire", "eventId": "n"}),
    ]  # fmt: skip


async def test_a_managers_session_waives_and_sends_no_progress(school: School) -> None:
    cookie = {"Cookie": f"{SESSION_COOKIE}=manager"}  # its subject is "session manager"
    async with school.db.write() as tx:
        await people.put(tx, Person("ada", None, "Ada", "Stone", manager_id="session manager"))
    own = event("own", "chapter_complete", userId="session manager")
    answer = await school.send(waiver("w"), event("1", progress=50), own, who=cookie)
    assert answer["accepted"] == 1
    refused = [(each["id"], each["code"]) for each in answer["results"]]
    assert refused == [("1", "forbidden"), ("own", "forbidden")]


async def test_a_waiver_needs_a_chapter_and_ends_with_its_attempt(school: School) -> None:
    answer = await school.send(waiver("w", chapterId=None))
    assert [each["code"] for each in answer["results"]] == ["chapter_required"]
    await school.send(waiver("1", timestamp="2026-11-20T09:00:00Z"))
    reset = event("2", "progress_reset", chapterId=None, timestamp="2026-11-20T10:00:00Z")
    await school.send(reset)
    seen = await school.progress()
    assert (seen["attempt"], seen["progress"]) == (2, 0)
    assert not any(each["completed"] for each in seen["chapters"])


async def test_a_waiver_may_be_sent_twice_and_before_its_chapter_is_published(
    school: School,
) -> None:
    assert (await school.send(waiver("1", "new")))["quarantined"] == 1
    await school.publish("fire", chapter("a"), chapter("new"))
    await school.work()
    answer = await school.send(waiver("1", "new"), waiver("1", "new", metadata={"reason": "x"}))
    assert (answer["duplicate"], answer["conflict"]) == (1, 1)
    seen = await school.progress()
    assert [each["completed"] for each in seen["chapters"]] == [False, True]


async def test_waivers_alone_finish_a_course_on_the_day_they_were_given(school: School) -> None:
    await school.send(
        waiver("1", "a", timestamp="2026-11-20T09:00:00Z"),
        waiver("2", "b", timestamp="2026-11-20T08:00:00Z"),
    )
    seen = await school.progress()
    assert (seen["status"], seen["completedAt"]) == ("completed", "2026-11-20T09:00:00.000000Z")


async def test_a_course_of_optional_chapters_can_be_finished_by_an_edit_after_a_waiver(
    school: School,
) -> None:
    def body(count: int) -> dict[str, Any]:
        return {
            "criteria": {"type": "n_of_m", "n": count, "of": ["a", "b"]},
            "learnerPolicy": "now",
            "completeOnEdit": True,
        }

    await school.publish("choice", chapter("a", required=False), chapter("b"), **body(2))
    await school.send(waiver("w", "a", courseId="choice"))
    assert (await school.progress(course="choice"))["status"] == "in_progress"
    await school.publish("choice", chapter("a", required=False), chapter("b"), **body(1))
    await school.work()
    seen = await school.progress(course="choice")
    assert seen["status"] == "completed"
    assert seen["completedAt"] > "2026-11-20T09:00:00.000000Z"  # when the edit was applied
