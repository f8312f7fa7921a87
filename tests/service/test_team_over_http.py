"""A manager's team over HTTP: who is in it, their courses, who is behind, and its pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import pytest
from tests.support.api_client import as_
from tests.support.progress_school import SERVICE, School, chapter, event, open_school

from homeroom.activity import obligation_store, store
from homeroom.activity.api import Offering, Programme
from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.people import api as people
from homeroom.people.api import Person

pytestmark = pytest.mark.anyio
TEAM = "/api/v1/team"
MIRA, ADMIN = as_("manager:mira"), as_("admin")


@pytest.fixture
async def school(db: Database) -> AsyncIterator[School]:
    async with open_school(db) as opened:
        await opened.publish("fire", chapter("a"), chapter("b"))
        yield opened


async def add_people(db: Database) -> None:
    """Mira has the reports Ada and Bob; Fay and Bob facilitate in her programme."""
    async with db.write() as tx:
        for id, manager_id in (("ada", "mira"), ("bob", "mira"), ("eve", "otto"), ("fay", None)):
            email = f"{id}@example.org"
            await people.put(tx, Person(id, email, id.title(), "Stone", manager_id=manager_id))
        for id, manager in (("mine", "mira"), ("theirs", "otto")):
            await store.put_programme(
                tx, Programme(id, id, "Europe/Berlin", managers=("someone", manager))
            )
        for number, (programme, facilitator) in enumerate(
            [("mine", "fay"), ("mine", "fay"), ("mine", "bob"), ("mine", "gus"), ("theirs", "eve")]
        ):
            dates = date(2026, 11, 1), date(2026, 12, 1)
            await store.put_offering(
                tx, Offering(f"o{number}", programme, "Pumps", facilitator, *dates)
            )


async def team(school: School, who: dict[str, str] = MIRA, **query: Any) -> list[dict[str, Any]]:
    answer = await school.http.get(TEAM, params=query, headers=who)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_a_team_has_reports_and_facilitators_with_their_courses(school: School) -> None:
    await add_people(school.db)
    await school.send(event("e1", progress=50), event("e2", userId="eve", progress=50))
    found = await team(school)
    assert {each["userId"]: each["relation"] for each in found} == {
        "ada": ["report"],
        "bob": ["report", "facilitator"],
        "fay": ["facilitator"],
        "gus": ["facilitator"],
    }
    progress = await school.progress("ada")
    assert found[0] == {
        "userId": "ada",
        "name": "Ada Stone",
        "email": "ada@example.org",
        "relation": ["report"],
        "courses": [
            {
                "courseId": "fire",
                "title": "Fire safety",
                "status": "in_progress",
                "progress": 25.0,
                "lastActivityAt": progress["lastActivityAt"],
                "completedAt": None,
            }
        ],
        "behind": False,
        "reason": None,
    }
    unknown: dict[str, Any] = {
        "userId": "gus",
        "name": "gus",
        "email": None,
        "courses": [],
        "behind": False,
    }
    assert found[3] == unknown | {"relation": ["facilitator"], "reason": None}


async def test_a_person_is_behind_without_activity_or_logs(school: School, clock: Clock) -> None:
    await add_people(school.db)
    await school.send(event("e1", progress=50), event("e2", userId="bob", progress=50))
    async with school.db.write() as tx:
        for programme, user in (("mine", "fay"), ("theirs", "bob")):
            await obligation_store.record_warning(
                tx, programme, user, "2026-W46", ["2026-W44", "2026-W45"]
            )
    clock.advance(timedelta(days=15))
    await school.send(event("e3", userId="bob", chapterId="b", timestamp=clock.now() // 1_000))
    found = {each["userId"]: (each["behind"], each["reason"]) for each in await team(school)}
    assert found == {
        "ada": (True, "Fire safety: no activity for 15 days."),
        "bob": (False, None),
        "fay": (True, "Missed logs: 2026-W44, 2026-W45."),
        "gus": (False, None),
    }


async def test_pages_follow_each_other_and_an_admin_names_the_manager(school: School) -> None:
    await add_people(school.db)
    pages, query = [], {"limit": "3"}
    while True:
        answer = (await school.http.get(TEAM, params=query, headers=MIRA)).json()
        pages.append([each["userId"] for each in answer["items"]])
        if answer["nextCursor"] is None:
            break
        query["cursor"] = answer["nextCursor"]
    assert pages == [["ada", "bob", "fay"], ["gus"]]
    assert [each["userId"] for each in await team(school, ADMIN, managerId="otto")] == ["eve"]
    assert [each["userId"] for each in await team(school, as_("manager:otto"))] == ["eve"]
    for other in ("mir", 'mira"', "someon", "%"):
        assert await team(school, as_(f"manager:{other}")) == [], other


@pytest.mark.parametrize(
    ("who", "query", "status"),
    [
        (MIRA, {"managerId": "otto"}, 403),
        (ADMIN, {}, 422),
        (SERVICE, {}, 403),
        (as_("operator"), {"managerId": "mira"}, 403),
        (as_("learner:mira"), {}, 403),
    ],
)
async def test_a_team_is_shown_to_its_manager_and_to_admins_alone(
    school: School, who: dict[str, str], query: dict[str, str], status: int
) -> None:
    assert (await school.http.get(TEAM, params=query, headers=who)).status_code == status
