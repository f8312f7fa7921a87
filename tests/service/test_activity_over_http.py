"""Programmes, logs, exemptions and compliance over HTTP: what each role may do and see."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.support.activity_school import ActivitySchool, at, build, local
from tests.support.api_client import AUTH, as_, client

from homeroom.access.api import record_audit
from homeroom.activity import routes
from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.jobs import routes as job_routes

pytestmark = [pytest.mark.anyio, pytest.mark.service]
SERVICE, VIEWER, OPERATOR = as_("service"), as_("viewer"), as_("operator")
ADA, BEN = as_("facilitator:ada"), as_("facilitator:ben")
MARA, OTHER = as_("manager:mara"), as_("manager:otto")
LAB = "/api/v1/programmes/lab"
LOGS = "/api/v1/activity-logs"
PROGRAMME = {"title": "The lab", "timeZone": "Europe/Berlin", "managers": ["mara"]}
OFFERING = {
    "title": "Art",
    "facilitatorId": "ada",
    "startsOn": "2026-01-01",
    "endsOn": "2026-12-31",
}


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    at(clock, local("2026-11-23T08:00"))
    return clock


@pytest.fixture
def school(db: SqliteDatabase, clock: Clock) -> ActivitySchool:
    return build(db, clock)


@pytest.fixture
async def api(school: ActivitySchool) -> AsyncIterator[httpx.AsyncClient]:
    routers = (
        routes.router(school.db, AUTH, school.activity),
        job_routes.router(school.db, AUTH, school.kernel.registry, record_audit),
    )
    async with client(*routers) as opened:
        answer = await opened.put(LAB, json=PROGRAMME, headers=SERVICE)
        assert answer.status_code == 201, answer.text
        answer = await opened.put(f"{LAB}/offerings/art", json=OFFERING, headers=SERVICE)
        assert answer.status_code == 201, answer.text
        yield opened


async def write(api: httpx.AsyncClient, who: dict[str, str] = ADA, **given: Any) -> httpx.Response:
    body = {"offeringId": "art", "week": "2026-W48", **given}
    return await api.post(LOGS, json=body, headers=who)


async def test_changes_of_one_log_at_the_same_moment_are_all_kept(api: httpx.AsyncClient) -> None:
    log = (await write(api, status="draft")).json()
    changes: list[dict[str, Any]] = [
        {"notes": "Went well."},
        {"attendance": [{"heldOn": "2026-11-23", "present": 12, "expected": 14}]},
        {"grading": {"essays": "done"}},
        {"status": "submitted"},
    ]
    path = f"{LOGS}/{log['id']}"
    answers = await asyncio.gather(
        *[api.patch(path, json=change, headers=ADA) for change in changes]
    )
    assert [answer.status_code for answer in answers] == [200] * 4
    found = (await api.get(path, headers=ADA)).json()
    assert {name: found[name] for change in changes for name in change} == {
        name: value for change in changes for name, value in change.items()
    }


async def test_a_programme_is_stored_and_read_by_those_whom_it_concerns(
    api: httpx.AsyncClient,
) -> None:
    assert (await api.put(LAB, json=PROGRAMME, headers=SERVICE)).status_code == 200
    assert (await api.put(LAB, json=PROGRAMME, headers=MARA)).status_code == 403
    assert (await api.get(LAB, headers=MARA)).json()["graceMinutes"] == 0
    assert (await api.get(LAB, headers=OTHER)).status_code == 404
    assert (await api.get("/api/v1/programmes", headers=OTHER)).json()["items"] == []
    assert len((await api.get("/api/v1/programmes", headers=VIEWER)).json()["items"]) == 1
    assert (await api.get("/api/v1/programmes/none", headers=VIEWER)).status_code == 404


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"timeZone": "Mars/Olympus"}, "#/timeZone"),
        ({"graceMinutes": -1}, "#/graceMinutes"),
        ({"logUrl": "javascript:alert(1)"}, "#/logUrl"),
        ({"logUrl": "https://learn.example.org/\x00"}, "#/logUrl"),
        ({"title": "The\u2028lab"}, "#/title"),
        ({"title": "The lab\n\nBuy this"}, "#/title"),
        ({"title": " \u00a0"}, "#/title"),
        ({"managers": [""]}, "#/managers/0"),
        ({"colour": "red"}, "#/colour"),
    ],
)
async def test_a_faulty_programme_is_refused_by_name(
    api: httpx.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    answer = await api.put(LAB, json={**PROGRAMME, **change}, headers=SERVICE)
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]


async def test_pages_of_a_managers_programmes_tell_nothing_of_others(
    api: httpx.AsyncClient,
) -> None:
    for id, manager in (("a-merger", "otto"), ("b", "mara"), ("c-merger", "otto"), ("d", "mara")):
        body = {**PROGRAMME, "managers": [manager]}
        await api.put(f"/api/v1/programmes/{id}", json=body, headers=SERVICE)
    seen: list[str] = []
    cursor = ""
    while True:
        path = f"/api/v1/programmes?limit=1{cursor}"
        page = (await api.get(path, headers=MARA)).json()
        seen += [each["id"] for each in page["items"]]
        if page["nextCursor"] is None:
            break
        assert b"merger" not in base64.urlsafe_b64decode(page["nextCursor"])
        cursor = f"&cursor={page['nextCursor']}"
    assert seen == ["b", "d", "lab"]


async def test_a_key_that_is_called_like_a_facilitator_reads_no_logs(
    api: httpx.AsyncClient,
) -> None:
    key = as_("facilitator")  # its name is "key facilitator"
    named = {**OFFERING, "facilitatorId": "key facilitator"}
    await api.put(f"{LAB}/offerings/own", json=named, headers=SERVICE)
    assert (await write(api, SERVICE, offeringId="own", notes="private")).status_code == 201
    for query in ("", "?facilitatorId=key%20facilitator"):
        assert (await api.get(LOGS + query, headers=key)).status_code == 403
    mine = (await api.get(LOGS, headers=as_("facilitator:key facilitator"))).json()["items"]
    assert [each["notes"] for each in mine] == ["private"]


async def test_a_log_is_written_edited_and_seen(
    api: httpx.AsyncClient, school: ActivitySchool
) -> None:
    content = {
        "attendance": [{"heldOn": "2026-11-23", "present": 12, "expected": 14}],
        "grading": {"essay": "pending"},
        "notes": "All well.",
    }
    answer = await write(api, **content)
    assert answer.status_code == 201
    log = answer.json()
    assert (log["status"], log["late"], log["attendance"]) == (
        "submitted",
        False,
        [{"heldOn": "2026-11-23", "present": 12, "expected": 14}],
    )
    assert (await write(api)).json()["logId"] == log["id"]  # a second one is a conflict
    path = f"{LOGS}/{log['id']}"
    school.move_to(local("2026-12-02T12:00"))
    changed = (await api.patch(path, json={"notes": "Corrected."}, headers=ADA)).json()
    assert (changed["notes"], changed["grading"], changed["late"], changed["submittedAt"]) == (
        "Corrected.",
        {"essay": "pending"},
        False,
        log["submittedAt"],
    )
    assert (await api.patch(path, json={"status": "draft"}, headers=ADA)).status_code == 409
    assert (await api.get(path, headers=BEN)).status_code == 404
    assert (await api.patch(path, json={"notes": "x"}, headers=MARA)).status_code == 422
    assert (await api.get(path, headers=MARA)).status_code == 200
    assert len((await api.get(LOGS, headers=MARA)).json()["items"]) == 1
    assert (await api.get(LOGS, headers=OTHER)).json()["items"] == []
    assert (await api.get(f"{LOGS}?facilitatorId=ada", headers=BEN)).status_code == 403


async def test_a_draft_satisfies_nothing_until_it_is_handed_in(api: httpx.AsyncClient) -> None:
    log = (await write(api, status="draft")).json()
    row = (await api.get(f"{LAB}/compliance", headers=MARA)).json()["rows"][0]
    assert row["weeks"]["2026-W48"] == "open"
    await api.patch(f"{LOGS}/{log['id']}", json={"status": "submitted"}, headers=ADA)
    row = (await api.get(f"{LAB}/compliance", headers=MARA)).json()["rows"][0]
    assert row["weeks"]["2026-W48"] == "done"


async def test_a_deleted_log_is_owed_again(api: httpx.AsyncClient) -> None:
    log = (await write(api)).json()
    assert (await api.delete(f"{LOGS}/{log['id']}", headers=MARA)).status_code == 204
    row = (await api.get(f"{LAB}/compliance", headers=MARA)).json()["rows"][0]
    assert row["weeks"]["2026-W48"] == "open"
    assert (await write(api)).status_code == 201


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"week": "2026-W49"}, 409),  # it has not begun
        ({"week": "2026-W40"}, 409),  # before Homeroom knew of the offering
        ({"week": "2026-W54"}, 422),
        ({"week": "next week"}, 422),
        ({"offeringId": "none"}, 404),
    ],
)
async def test_a_log_that_cannot_be_is_refused(
    api: httpx.AsyncClient, given: dict[str, Any], status: int
) -> None:
    assert (await write(api, SERVICE, **given)).status_code == status


async def test_a_facilitator_cannot_write_the_log_of_another(api: httpx.AsyncClient) -> None:
    assert (await write(api, BEN)).status_code == 403
    assert (await write(api, SERVICE)).status_code == 201


async def test_leave_exempts_and_its_end_makes_the_week_owed(api: httpx.AsyncClient) -> None:
    leave = {
        "userId": "ada",
        "startsOn": "2026-11-23",
        "endsOn": "2026-11-27",
        "reason": "leave",
        "note": "a private matter",
    }
    assert (await api.post(f"{LAB}/exemptions", json=leave, headers=OTHER)).status_code == 404
    made = (await api.post(f"{LAB}/exemptions", json=leave, headers=MARA)).json()
    row = (await api.get(f"{LAB}/compliance", headers=MARA)).json()["rows"][0]
    assert row["weeks"]["2026-W48"] == "exempt"
    assert len((await api.get(f"{LAB}/exemptions", headers=MARA)).json()) == 1
    path = f"{LAB}/exemptions/{made['id']}"
    assert (await api.delete(path, headers=MARA)).status_code == 204
    assert (await api.delete(path, headers=MARA)).status_code == 404
    row = (await api.get(f"{LAB}/compliance", headers=MARA)).json()["rows"][0]
    assert row["weeks"]["2026-W48"] == "open"


@pytest.mark.parametrize(
    "session",
    [
        {"heldOn": "2026-11-23", "present": 5, "expected": 3},
        {"heldOn": "2026-11-30", "present": 3, "expected": 5},
        {"heldOn": "2026-11-22", "present": 3},
    ],
)
async def test_attendance_above_the_expected_or_of_another_week_is_refused(
    api: httpx.AsyncClient, session: dict[str, Any]
) -> None:
    url, right = "/api/v1/activity-logs", {"heldOn": "2026-11-29", "present": 3, "expected": 3}
    log = {"offeringId": "art", "week": "2026-W48", "status": "draft", "attendance": [session]}
    assert (await api.post(url, json=log, headers=SERVICE)).status_code == 422
    made = await api.post(url, json=log | {"attendance": [right]}, headers=SERVICE)
    assert made.status_code == 201
    change = {"attendance": [right, session]}
    path = f"{url}/{made.json()['id']}"
    assert (await api.patch(path, json=change, headers=SERVICE)).status_code == 422
    assert (await api.get(path, headers=SERVICE)).json()["attendance"] == [right]


async def test_compliance_comes_as_csv_that_no_spreadsheet_runs(
    api: httpx.AsyncClient, school: ActivitySchool
) -> None:
    await school.person("ada", given_name="=HYPERLINK()", family_name="X")
    answer = await api.get(f"{LAB}/compliance.csv?from=2026-W47&to=2026-W48", headers=VIEWER)
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text == (
        "\ufeffuserId,name,2026-W47,2026-W48,missed,late,expected\r\n"
        "ada,'=HYPERLINK() X,,open,0,0,1\r\n"
    )
    wrong = await api.get(f"{LAB}/compliance?from=2026-W48&to=2026-W01", headers=VIEWER)
    assert wrong.status_code == 422


async def test_an_offering_that_changes_hands_is_owed_by_the_next_one(
    api: httpx.AsyncClient,
) -> None:
    body = {**OFFERING, "facilitatorId": "ben"}
    assert (await api.put(f"{LAB}/offerings/art", json=body, headers=SERVICE)).status_code == 200
    rows = (await api.get(f"{LAB}/compliance", headers=MARA)).json()["rows"]
    assert [row["userId"] for row in rows] == ["ben"]
    other = "/api/v1/programmes/other"
    await api.put(other, json=PROGRAMME, headers=SERVICE)
    stolen = await api.put(f"{other}/offerings/art", json=body, headers=SERVICE)
    assert stolen.status_code == 409


async def test_another_zone_moves_no_deadline_that_is_set(
    api: httpx.AsyncClient, school: ActivitySchool
) -> None:
    moved = {**PROGRAMME, "timeZone": "America/New_York", "graceMinutes": 60}
    await api.put(LAB, json=moved, headers=SERVICE)
    log = (await write(api)).json()
    assert log["deadlineAt"] == "2026-11-29T23:00:00.000000Z"  # Berlin's midnight
    school.move_to(local("2026-11-30T12:00"))
    log = (await write(api, week="2026-W49")).json()
    assert log["deadlineAt"] == "2026-12-07T06:00:00.000000Z"  # 01:00 in New York


async def test_schedules_are_run_dry_run_changed_and_paused(
    api: httpx.AsyncClient, school: ActivitySchool
) -> None:
    path = "/api/v1/schedules/reminder.lab"
    assert (await api.post(f"{path}/run", headers=VIEWER)).status_code == 403
    school.move_to(local("2026-11-23T09:30"))
    dry = (await api.post(f"{path}/run?dryRun=true", headers=OPERATOR)).json()
    assert (dry["dryRun"], dry["jobId"], dry["slot"]) == (
        True,
        None,
        "2026-11-23T09:00[Europe/Berlin]",
    )
    assert [each["userId"] for each in dry["preview"]["messages"]] == ["ada"]
    assert await school.keys() == []
    assert (await api.post(f"{path}/pause", headers=OPERATOR)).json()["paused"]
    run = (await api.post(f"{path}/run", headers=OPERATOR)).json()
    assert run["jobId"] is not None
    await school.work()
    assert await school.keys() == ["log_reminder:lab:2026-W48:ada"]
    [made] = (await api.get("/api/v1/activity-runs", headers=VIEWER)).json()[:1]
    assert (made["schedule"], made["state"], made["sent"]) == ("reminder.lab", "done", 1)
    assert not (await api.post(f"{path}/resume", headers=OPERATOR)).json()["paused"]
    changed = await api.put(path, json={"cron": "0 7 * * 1"}, headers=OPERATOR)
    assert changed.json()["nextAt"] == "2026-11-30T06:00:00.000000Z"
    assert (await api.put(path, json={"cron": "soon"}, headers=OPERATOR)).status_code == 422
    assert (await api.put(f"{path}x", json={}, headers=OPERATOR)).status_code == 404


async def test_a_report_is_read_as_it_is_by_now(
    api: httpx.AsyncClient, school: ActivitySchool
) -> None:
    school.move_to(local("2026-12-01T10:00"))
    await school.work()
    assert "manager_report:lab:2026-W48:mara" in await school.keys()
    report = f"{LAB}/reports/2026-W48"
    assert len((await api.get(report, headers=MARA)).json()["missing"]) == 1
    await write(api)
    found = (await api.get(report, headers=MARA)).json()
    [late] = found["late"]
    assert found["missing"] == []
    assert late["submittedAt"].startswith("2026-12-01T09:00:")


async def test_who_is_entered_on_a_saturday_owes_nothing_for_that_week(
    api: httpx.AsyncClient, school: ActivitySchool
) -> None:
    school.move_to(local("2026-11-28T13:00"))
    path = f"{LAB}/offerings/sculpture"
    assert (await api.put(path, json=OFFERING, headers=SERVICE)).status_code == 201
    school.move_to(local("2026-12-01T10:00"))
    await school.work()
    rows = await school.obligations()
    assert rows == [
        ("art", "2026-W48", "missed"),
        ("art", "2026-W49", "open"),
        ("sculpture", "2026-W48", "exempt"),
        ("sculpture", "2026-W49", "open"),
    ]
    leave = {"startsOn": "2026-11-23", "endsOn": "2026-11-24", "reason": "leave", "userId": "ada"}
    await api.post(f"{LAB}/exemptions", json=leave, headers=MARA)  # judges all of them again
    assert await school.obligations() == rows
