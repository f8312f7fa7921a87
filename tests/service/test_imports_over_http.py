"""People, enrolments, programmes and offerings from CSV, on both databases."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.activity_school import build
from tests.support.api_client import AUTH, as_, client

from homeroom.access.store import list_audit
from homeroom.activity import import_routes as programme_import
from homeroom.catalogue import import_routes as enrolment_import
from homeroom.catalogue.api import Catalogue, enrolments, enrolments_in
from homeroom.clock import Clock
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.people import api as people
from homeroom.people import import_routes as people_import

pytestmark = [pytest.mark.anyio, pytest.mark.service]
_ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = _ROOT / "examples" / "imports"
OPENAPI = _ROOT / "docs" / "openapi.json"
SERVICE, AUTHOR, ADMIN = as_("service"), as_("author"), as_("admin")
COURSE = {
    "title": "Foundations",
    "units": [{"id": "u", "title": "Unit", "chapters": [{"id": "c", "title": "Chapter"}]}],
}


@pytest.fixture
async def http(db: SqliteDatabase) -> AsyncIterator[httpx.AsyncClient]:
    catalogue, school = Catalogue(), build(db, Clock())
    async with db.write() as tx:
        await catalogue.publish(tx, "data-foundations", COURSE)
    async with client(
        people_import.router(db, AUTH),
        enrolment_import.router(db, AUTH, catalogue),
        programme_import.router(db, AUTH, school.activity),
    ) as opened:
        yield opened


async def post(
    http: httpx.AsyncClient,
    kind: str,
    content: str | bytes,
    *,
    dry_run: bool = False,
    caller: dict[str, str] = SERVICE,
) -> httpx.Response:
    return await http.post(
        f"/api/v1/imports/{kind}",
        params={"dryRun": dry_run},
        content=content,
        headers={**caller, "Content-Type": "text/csv; charset=utf-8"},
    )


def counts(answer: httpx.Response) -> tuple[int, int, int]:
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert report["faults"] == []
    return report["added"], report["changed"], report["unchanged"]


@pytest.mark.parametrize(
    ("kind", "rows"), [("people", 3), ("enrolments", 2), ("programmes", 1), ("offerings", 1)]
)
async def test_an_example_is_added_once_and_again_changes_nothing(
    http: httpx.AsyncClient, db: SqliteDatabase, kind: str, rows: int
) -> None:
    if kind == "offerings":
        await post(http, "programmes", (EXAMPLES / "programmes.csv").read_bytes())
    content = (EXAMPLES / f"{kind}.csv").read_bytes()
    dry = await post(http, kind, content, dry_run=True)
    assert counts(dry) == (rows, 0, 0)
    assert dry.json()["dryRun"] is True
    assert counts(await post(http, kind, content)) == (rows, 0, 0)
    assert counts(await post(http, kind, content)) == (0, 0, rows)
    async with db.read() as tx:
        entries = await list_audit(tx, 100, action=f"{kind}.imported")
    assert len(entries) == 1
    assert (entries[0].actor, entries[0].subject) == ("key service", kind)


async def test_a_column_that_a_file_lacks_stays_and_an_empty_cell_clears(
    http: httpx.AsyncClient, db: SqliteDatabase
) -> None:
    await post(http, "people", (EXAMPLES / "people.csv").read_bytes())
    header = "\ufeffuserId;familyName;givenName;managerId\r\n"
    content = header + "ada;King;Ada;\r\nben;Okafor, Jr.;Ben;mara\r\n"
    assert counts(await post(http, "people", content)) == (0, 1, 1)
    async with db.read() as tx:
        found = await people.find(tx, ["ada", "ben"])
    ada = found["ada"]
    assert (ada.family_name, ada.manager_id, ada.email) == ("King", None, "ada@school.example")
    assert (ada.roles, ada.group_ids) == (("learner", "facilitator"), ("ward-3", "night-shift"))
    assert found["ben"].manager_id == "mara"


async def test_a_dry_run_names_all_faults_and_an_import_stores_nothing_of_the_file(
    http: httpx.AsyncClient, db: SqliteDatabase
) -> None:
    lines = [
        "userId,givenName,familyName,email,roles,managerId,timeZone",
        "ok,Olga,Kay,ok@school.example,learner,,",
        "a,Ann,,ann,king,a,Mars",
        "b,Bea,Bee,,admin,,",
        "c,Cy,Cee,,,c,",
        "ok,Olga,Kay,,,,",
    ]
    content = "\n".join(lines)
    dry = await post(http, "people", content, dry_run=True)
    assert dry.status_code == 200
    report = dry.json()
    assert (report["rows"], report["added"]) == (5, 1)
    assert [(each["line"], each["column"]) for each in report["faults"]] == [
        (3, "email"),
        (3, "familyName"),
        (3, "timeZone"),
        (3, "roles"),
        (4, "roles"),
        (5, "managerId"),
        (6, None),
    ]
    assert "line 2" in report["faults"][-1]["detail"]
    refused = await post(http, "people", content)
    assert (refused.status_code, refused.json()["errorCount"]) == (422, 7)
    first = refused.json()["errors"][0]
    assert (first["line"], first["column"], first["code"]) == (3, "email", "invalid_row")
    schemas = json.loads(OPENAPI.read_text(encoding="utf-8"))["components"]["schemas"]
    assert refused.json().keys() <= schemas["Problem"]["properties"].keys()
    assert first.keys() <= schemas["ProblemPart"]["properties"].keys()
    async with db.read() as tx:
        assert await people.find(tx, ["ok", "a", "b", "c"]) == {}
    assert counts(await post(http, "people", "\n".join([lines[0], lines[3]]), caller=ADMIN))[0] == 1


@pytest.mark.parametrize(
    ("kind", "content", "faults"),
    [
        (
            "enrolments",
            "courseId,userId,approved\nnone,ada,\ndata-foundations,ben,maybe\n",
            [(2, "courseId"), (3, "approved")],
        ),
        (
            "programmes",
            "id,title,timeZone,managers,graceMinutes\nlab,Lab,Mars,mara,x\n",
            [(2, "timeZone"), (2, "graceMinutes")],
        ),
        (
            "offerings",
            "id,programmeId,title,facilitatorId,startsOn,endsOn\n"
            "art,none,Art,ada,2026-01-01,2026-02-01\n"
            "gym,none,Gym,ada,2026-03-01,1 February\n",
            [(2, "programmeId"), (3, "endsOn")],
        ),
    ],
)
async def test_faults_of_every_kind_have_line_and_column(
    http: httpx.AsyncClient, kind: str, content: str, faults: list[Any]
) -> None:
    report = (await post(http, kind, content, dry_run=True)).json()
    assert [(each["line"], each["column"]) for each in report["faults"]] == faults
    assert (await post(http, kind, content)).status_code == 422


async def test_an_author_enrols_and_does_not_approve(
    http: httpx.AsyncClient, db: SqliteDatabase
) -> None:
    approving = "courseId,userId,approved\ndata-foundations,ada,true\n"
    assert (await post(http, "enrolments", approving, caller=AUTHOR)).status_code == 422
    enrolling = "courseId,userId\ndata-foundations,ada\n"
    assert counts(await post(http, "enrolments", enrolling, caller=AUTHOR)) == (1, 0, 0)
    assert counts(await post(http, "enrolments", approving)) == (0, 1, 0)
    async with db.read() as tx:
        pair = ("ada", "data-foundations")
        [enrolment] = (await enrolments(tx, [pair]))[pair]
    assert enrolment.approved


async def test_a_large_file_of_enrolments_is_stored_in_parts(
    http: httpx.AsyncClient, db: SqliteDatabase
) -> None:
    count = 2 * enrolment_import.ROWS_PER_COMMIT + 1
    rows = "".join(f"data-foundations,learner-{number:04}\n" for number in range(count))
    assert counts(await post(http, "enrolments", f"courseId,userId\n{rows}")) == (count, 0, 0)
    async with db.read() as tx:
        assert len(await enrolments_in(tx, "data-foundations", None, 1_000)) == count
        assert len(await list_audit(tx, 100, action="enrolments.imported")) == 3


async def test_an_import_needs_its_role_and_csv(http: httpx.AsyncClient) -> None:
    content = "userId,givenName,familyName\nada,Ada,Love\n"
    for caller in ("operator", "viewer", "manager:mara", "learner:ada", "author"):
        assert (await post(http, "people", content, caller=as_(caller))).status_code == 403
        if caller != "author":
            answer = await post(http, "enrolments", content, caller=as_(caller))
            assert answer.status_code == 403
    as_json = await http.post("/api/v1/imports/people", json=[], headers=SERVICE)
    assert as_json.status_code == 415
