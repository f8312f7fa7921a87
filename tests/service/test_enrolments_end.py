"""Un-enrolment and archived courses: what stays, and what is refused from then on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.api_client import as_
from tests.support.progress_school import SERVICE, School, chapter, event, open_school

from homeroom.db.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.service]
COURSE = "/api/v1/courses/fire"
ADA = f"{COURSE}/enrolments/ada"


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with open_school(db) as opened:
        await opened.publish("fire", chapter("a"), chapter("b"))
        yield opened


def now() -> str:
    return datetime.now(UTC).isoformat()


async def refused(school: School, *events: dict[str, Any]) -> dict[str, str]:
    """Send events and return the codes of those that do not count, by id."""
    answer = await school.send(*events)
    codes = {each["id"]: str(each["code"]) for each in answer["results"]}
    assert answer["accepted"] == len(events) - len(codes)
    return codes


async def test_an_ended_enrolment_keeps_progress_and_refuses_later_events(school: School) -> None:
    await school.send(event("1", "chapter_complete"))
    for _ in range(2):
        assert (await school.http.delete(ADA, headers=SERVICE)).status_code == 204
    ended = (await school.http.get(ADA, headers=as_("viewer"))).json()
    assert ended["endedAt"] is not None
    assert (await school.progress())["progress"] == 50
    # What a player kept while it was offline, and what comes after the end.
    late, later = event("2", progress=20, chapterId="b"), event("3", chapterId="b", progress=60)
    assert await refused(school, late, {**later, "timestamp": now()}) == {"3": "not_enrolled"}
    assert (await school.progress())["progress"] == 60  # 100 and 20
    listed = (await school.http.get(f"{COURSE}/enrolments", headers=SERVICE)).json()["items"]
    assert [each["endedAt"] for each in listed] == [ended["endedAt"]]
    assert await school.rows("SELECT action, subject FROM audit") == [("enrolment.ended", "ada")]


async def test_an_ended_enrolment_goes_on_when_the_learner_is_enrolled_again(
    school: School,
) -> None:
    await school.send(event("1", "chapter_complete"))
    await school.http.delete(ADA, headers=SERVICE)
    again = await school.http.put(ADA, headers=SERVICE)
    assert (again.status_code, again.json()["endedAt"]) == (200, None)
    assert again.json()["status"] == "in_progress"
    last = {**event("2", "chapter_complete", chapterId="b"), "timestamp": now()}
    assert await refused(school, last) == {}
    assert (await school.progress())["status"] == "completed"


async def test_a_reset_does_not_reopen_an_ended_enrolment(school: School) -> None:
    await school.send(event("1", "chapter_complete"))
    await school.http.delete(ADA, headers=SERVICE)
    reset = event("2", "progress_reset", chapterId=None)
    assert await refused(school, reset) == {}  # from before the end
    attempts = await school.rows("SELECT attempt, ended_at FROM enrolment ORDER BY attempt")
    assert [number for number, _ in attempts] == [1, 2]
    assert attempts[1][1] is not None
    later = {**event("3", progress=5), "timestamp": now()}
    assert await refused(school, later) == {"3": "not_enrolled"}


async def test_an_archived_course_takes_no_new_learner_and_keeps_those_it_has(
    school: School,
) -> None:
    await school.send(event("1", "chapter_complete"))
    assert (await school.http.post(f"{COURSE}/archive", headers=as_("author"))).status_code == 204
    answer = await school.http.put(f"{COURSE}/enrolments/ben", headers=SERVICE)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    ben = event("2", "chapter_complete", userId="ben")
    goes_on = event("3", chapterId="b", progress=50)
    assert await refused(school, ben, goes_on) == {"2": "not_enrolled"}
    assert (await school.progress())["progress"] == 75
    lists = {}
    for archived in ("true", "false"):
        answer = await school.http.get(f"/api/v1/courses?archived={archived}", headers=SERVICE)
        lists[archived] = [each["courseId"] for each in answer.json()["items"]]
    assert lists == {"true": ["fire"], "false": []}
    assert (await school.http.get(COURSE, headers=SERVICE)).json()["archivedAt"] is not None
    await school.publish("fire", chapter("a"), chapter("b"), chapter("c"))  # stays archived
    assert (await school.http.get(COURSE, headers=SERVICE)).json()["archivedAt"] is not None
    assert (await school.http.post(f"{COURSE}/unarchive", headers=SERVICE)).status_code == 204
    assert (await school.http.get(COURSE, headers=SERVICE)).json()["archivedAt"] is None
    assert await refused(school, {**ben, "id": "4"}) == {}


async def test_what_does_not_exist_is_404_and_other_roles_are_403(school: School) -> None:
    assert (await school.http.delete(ADA, headers=SERVICE)).status_code == 404
    assert (await school.http.get(ADA, headers=SERVICE)).status_code == 404
    unknown = "/api/v1/courses/none/archive"
    assert (await school.http.post(unknown, headers=SERVICE)).status_code == 404
    for caller in ("operator", "viewer", "manager:m", "learner:ada"):
        assert (await school.http.delete(ADA, headers=as_(caller))).status_code == 403
        assert (await school.http.post(f"{COURSE}/archive", headers=as_(caller))).status_code == 403
