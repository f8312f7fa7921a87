"""The HR report has the webhook's records, by period, course and group, without formulas."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import AsyncIterator
from datetime import datetime

import httpx
import openpyxl
import pytest
from tests.support.api_client import AUTH, as_, client
from tests.support.partner_school import COMPLETED_AT, School, running_sandbox, school

from homeroom.access.store import list_audit
from homeroom.credentials.api import HttpLearnerDirectory
from homeroom.db.database import Database
from homeroom.dispatch import report_routes
from homeroom.dispatch.hr_report import COLUMNS, HrReports
from homeroom.instant import DAY
from homeroom.people import api as people
from homeroom.people.api import Person

pytestmark = [pytest.mark.anyio, pytest.mark.service]
SERVICE = as_("service")
CSV, XLSX = "/api/v1/reports/hr.csv", "/api/v1/reports/hr.xlsx"


@pytest.fixture
async def here(db: Database) -> AsyncIterator[School]:
    async with running_sandbox() as running, school(db, running, only=["credential", "hr"]) as at:
        await running.control(
            "people",
            {
                "people": [
                    {
                        "id": "ada",
                        "email": "ada@example.org",
                        "givenName": '=HYPERLINK("http://x")',
                        "familyName": "Okafor\u0007",
                        "groupIds": ["ward-3"],
                    },
                    {"id": "ben", "givenName": "Ben", "familyName": "Müller", "groupIds": ["it"]},
                ],
                "unknown": ["gone"],
            },
        )
        yield at


@pytest.fixture
async def api(here: School) -> AsyncIterator[httpx.AsyncClient]:
    directory = HttpLearnerDirectory(here.partners["directory"])
    reports = HrReports(here.db, here.completions, directory, here.credentials.find_url)
    async with client(report_routes.router(AUTH, reports)) as opened:
        yield opened


async def rows(
    api: httpx.AsyncClient, who: dict[str, str] = SERVICE, **query: str
) -> list[dict[str, str]]:
    answer = await api.get(CSV, headers=who, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(b"\xef\xbb\xbf")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


async def test_the_report_has_the_records_of_the_webhook(
    here: School, api: httpx.AsyncClient
) -> None:
    await here.complete(await here.publish(), "ben")
    await here.work()
    [message] = await here.sandbox.received("hr")
    told = message["body"]["data"]
    assert tuple(told) == COLUMNS
    [credential] = await here.credential_of("ben")
    [row] = await rows(api)
    expected = {name: "" if value is None else str(value) for name, value in told.items()}
    assert row == {**expected, "credentialUrl": credential.url}  # HR may not have known it yet
    async with here.db.read() as tx:
        [entry] = await list_audit(tx, 10, action="report.exported")
    assert (entry.subject, entry.details) == ("hr", {"rows": 1})


async def test_the_report_is_by_period_course_and_group(
    here: School, api: httpx.AsyncClient
) -> None:
    data, fire = await here.publish(), await here.publish("fire", title="Fire safety")
    await here.complete(data, "ada")
    await here.complete(data, "ben", completed_at=COMPLETED_AT + DAY)
    await here.complete(fire, "ada", completed_at=COMPLETED_AT + 2 * DAY)
    await here.complete(fire, "gone", completed_at=COMPLETED_AT + 2 * DAY)

    async def found(**query: str) -> list[tuple[str, str]]:
        return [(row["employeeId"], row["courseId"]) for row in await rows(api, **query)]

    everything = await found()
    assert everything[:2] == [("ada", "data"), ("ben", "data")]
    assert set(everything[2:]) == {("ada", "fire"), ("gone", "fire")}
    assert await found(**{"from": "2026-11-23", "to": "2026-11-23"}) == [("ben", "data")]
    assert await found(courseId="data") == [("ada", "data"), ("ben", "data")]
    assert await found(groupId="ward-3") == [("ada", "data"), ("ada", "fire")]
    assert await found(groupId="ward-3", courseId="fire") == [("ada", "fire")]
    assert await found(groupId="mars") == []
    async with here.db.write() as tx:
        await people.put(tx, Person("ben", None, "Ben", "Müller", manager_id="mira"))
    of_manager = [row["employeeId"] for row in await rows(api, as_("manager:mira"))]
    assert of_manager == ["ben"]
    wrong = await api.get(CSV, headers=SERVICE, params={"from": "yesterday"})
    assert wrong.status_code == 422
    for stranger in ("viewer", "learner:ada", "facilitator"):
        assert (await api.get(CSV, headers=as_(stranger))).status_code == 403
    assert (await api.get(XLSX)).status_code == 401


async def test_no_cell_is_a_formula(here: School, api: httpx.AsyncClient) -> None:
    await here.complete(await here.publish(title="@SUM(1+9)"), "ada", score=None)
    [row] = await rows(api)
    assert row["givenName"] == '\'=HYPERLINK("http://x")'
    assert row["courseTitle"] == "'@SUM(1+9)"
    assert row["score"] == ""
    answer = await api.get(XLSX, headers=SERVICE)
    assert answer.status_code == 200, answer.text
    sheet = openpyxl.load_workbook(io.BytesIO(answer.content))["HR"]
    heading, cells = list(sheet.iter_rows())
    assert tuple(cell.value for cell in heading) == COLUMNS
    by_name = dict(zip(COLUMNS, cells, strict=True))
    assert by_name["givenName"].value == '=HYPERLINK("http://x")'
    assert by_name["givenName"].data_type == "s"  # the text itself, and no formula
    assert by_name["familyName"].value == "Okafor"  # without a character that XML cannot hold
    assert by_name["completedAt"].value == datetime.fromisoformat("2026-11-22T09:00:00")
    assert by_name["hours"].value == 1.5
    assert by_name["score"].value is None
    with zipfile.ZipFile(io.BytesIO(answer.content)) as parts:
        assert b"<f>" not in parts.read("xl/worksheets/sheet1.xml")


async def test_a_report_is_whole_or_an_error(
    here: School, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = await here.publish()
    for number in range(3):
        await here.complete(course, f"u{number}")
    monkeypatch.setattr(report_routes, "MAX_XLSX_ROWS", 2)
    answer = await api.get(XLSX, headers=SERVICE)
    assert (answer.status_code, "shorter period" in answer.json()["hint"]) == (422, True)
    assert len(await rows(api)) == 3
    await here.sandbox.fault("directory", "status", status=500)
    answer = await api.get(CSV, headers=SERVICE)
    assert (answer.status_code, answer.json()["code"]) == (502, "partner_failed")


async def test_groups_are_those_of_the_built_in_directory(here: School, db: Database) -> None:
    async with db.write() as tx:
        await people.put(tx, Person("ada", None, "Ada", "Okafor", group_ids=("ward-3", "it")))
    async with db.read() as tx:
        stored = await people.get(tx, "ada")
    assert stored is not None
    assert stored.group_ids == ("ward-3", "it")
