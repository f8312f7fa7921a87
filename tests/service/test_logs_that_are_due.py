"""What is due of a facilitator, a programme's weeks, and what it sends next, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date

import httpx
import pytest
from tests.support.activity_school import ActivitySchool, at, build, local
from tests.support.api_client import AUTH, as_, client

from homeroom.access.store import list_audit
from homeroom.activity import routes
from homeroom.clock import Clock
from homeroom.db.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.service]
ADA, BEN, MARA, OTTO = (
    as_(f"{role}:{name}")
    for role, name in (
        ("facilitator", "ada"),
        ("facilitator", "ben"),
        ("manager", "mara"),
        ("manager", "otto"),
    )
)
REFUSED = (403, 404)
"""Of a programme of others; 404 hides that it exists."""
DUE, LOGS, LAB = "/api/v1/log-obligations", "/api/v1/activity-logs", "/api/v1/programmes/lab"


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, local("2026-11-16T08:00"))
    return clock


@pytest.fixture
async def school(db: Database, clock: Clock) -> ActivitySchool:
    made = build(db, clock)  # type: ignore[arg-type]  # PostgreSQL too
    await made.programme()
    await made.programme("law", managers=("otto",))
    for name in ("mara", "ada", "ben"):
        await made.person(name)
    await made.offering("art", "ada")
    await made.offering("bio", "ada", ends=date(2026, 11, 22))
    await made.offering("tax", "ben", "law")
    made.move_to(local("2026-11-23T08:00"))
    await made.run_now("open_week.lab")
    await made.work()
    return made


@pytest.fixture
async def api(school: ActivitySchool) -> AsyncIterator[httpx.AsyncClient]:
    async with client(routes.router(school.db, AUTH, school.activity)) as opened:
        yield opened


async def test_a_facilitator_sees_what_is_due_and_what_was_written(
    api: httpx.AsyncClient,
) -> None:
    draft = {"offeringId": "art", "week": "2026-W48", "status": "draft"}
    assert (await api.post(LOGS, json=draft, headers=ADA)).status_code == 201
    late = {"offeringId": "art", "week": "2026-W47"}
    assert (await api.post(LOGS, json=late, headers=ADA)).status_code == 201

    first = (await api.get(DUE, params={"limit": 2}, headers=ADA)).json()
    cursor = {"cursor": first["nextCursor"], "limit": 2}
    second = (await api.get(DUE, params=cursor, headers=ADA)).json()
    assert second["nextCursor"] is None
    assert [
        (each["week"], each["offeringId"], each["state"], each["logStatus"])
        for each in first["items"] + second["items"]
    ] == [
        ("2026-W48", "art", "open", "draft"),
        ("2026-W47", "art", "late", "submitted"),
        ("2026-W47", "bio", "missed", None),
    ]
    [art, *_] = first["items"]
    assert (art["programmeTitle"], art["startsOn"], art["endsOn"], art["deadlineAt"]) == (
        "The lab",
        "2026-11-23",
        "2026-11-29",
        "2026-11-29T23:00:00.000000Z",
    )
    missing = (await api.get(DUE, params={"outstanding": True}, headers=ADA)).json()["items"]
    assert [each["offeringId"] for each in missing] == ["art", "bio"]
    other = (await api.get(DUE, params={"outstanding": False}, headers=ADA)).json()["items"]
    assert [(each["week"], each["offeringId"]) for each in other] == [("2026-W47", "art")]

    of_ada = {"facilitatorId": "ada"}
    assert (await api.get(DUE, params=of_ada, headers=BEN)).status_code == 403
    assert (await api.get(DUE, params=of_ada, headers=as_("viewer"))).json() == (
        await api.get(DUE, headers=ADA)
    ).json()
    assert (await api.get(DUE, headers=MARA)).status_code == 403


async def test_a_manager_enters_a_missed_week_with_a_reason(
    api: httpx.AsyncClient, school: ActivitySchool
) -> None:
    log = {"offeringId": "art", "week": "2026-W47", "notes": "By telephone."}
    without = await api.post(LOGS, json=log, headers=MARA)
    assert [each["pointer"] for each in without.json()["errors"]] == ["#/lateReason"]
    entered = await api.post(LOGS, json={**log, "lateReason": "In hospital."}, headers=MARA)
    assert entered.status_code == 201
    stored = entered.json()
    assert (stored["facilitatorId"], stored["late"], stored["lateReason"]) == (
        "ada",
        True,
        "In hospital.",
    )
    foreign = {"offeringId": "tax", "week": "2026-W48", "lateReason": "x"}
    assert (await api.post(LOGS, json=foreign, headers=MARA)).status_code in REFUSED
    async with school.db.read() as tx:
        [entry] = await list_audit(tx, 10, action="activity_log.entered")
    assert (entry.actor, entry.subject) == ("mara", stored["id"])
    assert entry.details == {"offeringId": "art", "week": "2026-W47", "reason": "In hospital."}


async def test_the_weeks_of_a_programme_have_a_cell_an_offering(
    api: httpx.AsyncClient, school: ActivitySchool
) -> None:
    await school.exempt("lab", date(2026, 11, 23), date(2026, 11, 29), user_id="ada")
    log = await school.log("bio", "2026-W47")
    asked = {"from": "2026-W47", "to": "2026-W48"}
    answer = (await api.get(f"{LAB}/weeks", params=asked, headers=MARA)).json()
    assert (answer["weeks"], answer["currentWeek"]) == (["2026-W47", "2026-W48"], "2026-W48")
    cells = {
        each["offeringId"]: {
            week: (cell["state"], cell["exemptReason"], cell["logId"])
            for week, cell in each["weeks"].items()
        }
        for each in answer["items"]
    }
    assert cells == {
        "art": {"2026-W47": ("missed", None, None), "2026-W48": ("exempt", "leave", None)},
        "bio": {"2026-W47": ("late", None, log.id)},
    }
    assert [each["facilitatorName"] for each in answer["items"]] == ["Ada Example"] * 2
    page = (await api.get(f"{LAB}/weeks", params={"limit": 1}, headers=MARA)).json()
    rest = {"limit": 1, "cursor": page["nextCursor"]}
    more = (await api.get(f"{LAB}/weeks", params=rest, headers=MARA)).json()
    assert [each["offeringId"] for each in page["items"] + more["items"]] == ["art", "bio"]
    assert (await api.get(f"{LAB}/weeks", headers=OTTO)).status_code in REFUSED
    for edge in ({"to": "0001-W01"}, {"from": "9999-W50", "to": "9999-W52"}):
        answer = await api.get(f"{LAB}/weeks", params=edge, headers=MARA)
        assert answer.status_code == 422


async def test_a_manager_sees_what_goes_out_next_and_to_whom(
    api: httpx.AsyncClient, school: ActivitySchool
) -> None:
    slots = (await api.get(f"{LAB}/upcoming", headers=MARA)).json()
    assert [(each["kind"], each["slotAt"]) for each in slots] == [
        ("reminder", "2026-11-23T08:00:00.000000Z"),
        ("report", "2026-11-24T09:00:00.000000Z"),
        ("deadline_warning", "2026-11-26T07:00:00.000000Z"),
    ]
    reminder, report, _ = slots
    assert [(each["name"], each["type"]) for each in reminder["messages"]] == [
        ("Ada Example", "log_reminder")
    ]
    assert {each["channel"] for each in reminder["messages"][0]["deliveries"]} >= {"email"}
    assert "mara" in {each["userId"] for each in report["messages"]}
    await school.log("art", "2026-W48")
    [reminder, *_] = (await api.get(f"{LAB}/upcoming", headers=MARA)).json()
    assert (reminder["messages"], [each["name"] for each in reminder["others"]]) == (
        [],
        ["Ada Example"],
    )
    assert (await api.get(f"{LAB}/upcoming", headers=OTTO)).status_code in REFUSED
