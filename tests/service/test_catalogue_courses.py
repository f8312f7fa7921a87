"""Courses and enrolments over HTTP: versions, dry runs, enrolling, rights."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import sqlalchemy
from tests.support.api_client import AUTH, as_, client

from homeroom.catalogue import api, routes, store
from homeroom.catalogue.api import Catalogue, Course, Enrolment, VersionChangePreview
from homeroom.completion import store as completion_store
from homeroom.db import migrate
from homeroom.db.bulk import keyed_statements
from homeroom.db.database import Database
from homeroom.db.sqlite.database import SqliteDatabase, SqliteTx
from homeroom.db.tx import Tx
from homeroom.errors import NotFound
from homeroom.people import store as people_store

pytestmark = pytest.mark.anyio
AUTHOR, SERVICE = as_("author"), as_("service")


def course(*chapters: str, **more: Any) -> dict[str, Any]:
    return {
        "title": "Data literacy",
        "units": [
            {
                "id": "u",
                "title": "Unit",
                "chapters": [{"id": id, "title": f"Chapter {id}"} for id in chapters],
            }
        ],
        **more,
    }


async def count_new_chapters(tx: Tx, draft: Course) -> VersionChangePreview:
    """Stand in for progress: counts depend on the draft and the database."""
    current = (await api.current_courses(tx, [draft.id])).get(draft.id)
    known = len(current.chapters) if current else 0
    return VersionChangePreview(known, len(draft.chapters), draft.version, 0, 4)


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture
async def http(db: Database, catalogue: Catalogue) -> AsyncIterator[httpx.AsyncClient]:
    async with client(routes.router(db, AUTH, catalogue, count_new_chapters)) as opened:
        yield opened


async def test_publishing_creates_versions_and_an_equal_body_none(
    http: httpx.AsyncClient, db: Database
) -> None:
    url = "/api/v1/courses/data"
    first = await http.put(url, json=course("a", "b"), headers=AUTHOR)
    assert (first.status_code, first.json()["version"]) == (201, 1)
    same = await http.put(url, json=course("a", "b", autoEnrol=True), headers=SERVICE)
    assert (same.status_code, same.json()) == (200, first.json())
    edited = await http.put(url, json=course("a", "c"), headers=AUTHOR)
    assert (edited.status_code, edited.json()["version"]) == (200, 2)
    assert (await http.get(url, headers=AUTHOR)).json() == edited.json()
    old = await http.get(url, params={"version": 1}, headers=AUTHOR)
    assert old.json() == first.json()
    assert (await http.get(url, params={"version": 3}, headers=AUTHOR)).status_code == 404
    async with db.read() as tx:
        assert await tx.fetch("SELECT version FROM course_version ORDER BY version") == [(1,), (2,)]


async def test_going_back_to_an_older_body_is_a_new_version(http: httpx.AsyncClient) -> None:
    for chapters, version in (("a", 1), ("b", 2), ("a", 3)):
        answer = await http.put("/api/v1/courses/x", json=course(chapters), headers=AUTHOR)
        assert answer.json()["version"] == version


async def test_a_read_course_can_be_put_back_unchanged(http: httpx.AsyncClient) -> None:
    body = course("a", validity="P1Y", estimatedHours=1.5, criteria={"any": [{"type": "manual"}]})
    made = (await http.put("/api/v1/courses/x", json=body, headers=AUTHOR)).json()
    again = await http.put("/api/v1/courses/x", json=made, headers=AUTHOR)
    assert (again.status_code, again.json()) == (200, made)


async def test_a_dry_run_counts_changes_and_stores_nothing(
    http: httpx.AsyncClient, db: Database
) -> None:
    url = "/api/v1/courses/data"
    fresh = await http.put(url, json=course("a"), headers=AUTHOR, params={"dryRun": "true"})
    assert fresh.status_code == 200
    assert (await http.get(url, headers=AUTHOR)).status_code == 404
    await http.put(url, json=course("a", "b"), headers=AUTHOR)
    answer = await http.put(url, json=course("a"), headers=AUTHOR, params={"dryRun": "true"})
    assert answer.json() == {
        "courseId": "data",
        "version": 2,
        "changes": True,
        "newlyComplete": 2,
        "dropping": 1,
        "unaffected": 2,
        "moved": 0,
        "renewed": 4,
    }
    same = await http.put(url, json=course("a", "b"), headers=AUTHOR, params={"dryRun": "true"})
    assert (same.json()["changes"], same.json()["version"]) == (False, 1)
    assert (await http.get(url, headers=AUTHOR)).json()["version"] == 1
    wrong = await http.put(url, json=course("a", "a"), headers=AUTHOR, params={"dryRun": "true"})
    assert wrong.status_code == 422


async def test_a_hook_that_fails_leaves_the_course_unpublished(
    http: httpx.AsyncClient, db: Database, catalogue: Catalogue
) -> None:
    seen: list[tuple[int, int | None]] = []

    async def refuse(tx: Tx, new: Course, old: Course | None) -> None:
        seen.append((new.version, old and old.version))
        assert await api.course_at(tx, new.id, new.version) == new
        if len(new.chapters) == 2:
            raise NotFound("no")

    catalogue.on_publish.append(refuse)
    await http.put("/api/v1/courses/x", json=course("a"), headers=AUTHOR)
    refused = await http.put("/api/v1/courses/x", json=course("a", "b"), headers=AUTHOR)
    assert refused.status_code == 404
    third = await http.put("/api/v1/courses/x", json=course("z"), headers=AUTHOR)
    assert third.json()["version"] == 2
    assert seen == [(1, None), (2, 1), (2, 1)]
    async with db.read() as tx:  # the cache must not remember the version that was rolled back
        assert list((await api.course_at(tx, "x", 2)).chapters) == ["z"]


async def test_all_faults_are_reported_at_once_and_nothing_is_stored(
    http: httpx.AsyncClient,
) -> None:
    wrong = course("a", "a", validity="soon", colour="red")
    answer = await http.put("/api/v1/courses/x", json=wrong, headers=AUTHOR)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [each["pointer"] for each in answer.json()["errors"]] == [
        "#/colour",
        "#/units/0/chapters/1/id",
        "#/validity",
    ]
    assert (await http.get("/api/v1/courses/x", headers=AUTHOR)).status_code == 404


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"[" * 100_000, 400),
        (b"\xff\xfe{", 400),
        (b"[1]", 422),
        (b"", 422),
        (b'{"title": NaN, "units": []}', 422),
        (b'{"title": "x", "units": [], "\\ud800": 1}', 422),
        (b'{"title": "\\ud800", "units": [{"id": "\\ud800", "chapters": []}]}', 422),
    ],
)
async def test_a_body_that_is_no_course_is_a_problem_document(
    http: httpx.AsyncClient, content: bytes, status: int
) -> None:
    headers = {**AUTHOR, "Content-Type": "application/json"}
    answer = await http.put("/api/v1/courses/x", content=content, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


async def test_a_course_id_with_control_characters_is_refused(http: httpx.AsyncClient) -> None:
    for id in ("a%00b", "x" * 129):
        answer = await http.put(f"/api/v1/courses/{id}", json=course("a"), headers=AUTHOR)
        assert answer.status_code == 422


async def test_reads_carry_an_etag_and_answer_304(http: httpx.AsyncClient) -> None:
    await http.put("/api/v1/courses/x", json=course("a"), headers=AUTHOR)
    for url in ("/api/v1/courses/x", "/api/v1/courses"):
        first = await http.get(url, headers=AUTHOR)
        again = await http.get(url, headers={**AUTHOR, "If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    tag = (await http.get("/api/v1/courses/x", headers=AUTHOR)).headers["etag"]
    await http.put("/api/v1/courses/x", json=course("b"), headers=AUTHOR)
    changed = await http.get("/api/v1/courses/x", headers={**AUTHOR, "If-None-Match": tag})
    assert changed.status_code == 200


async def test_of_two_authors_the_second_is_refused(http: httpx.AsyncClient) -> None:
    url = "/api/v1/courses/x"
    early = await http.put(url, json=course("a"), headers={**AUTHOR, "If-Match": '"x"'})
    assert early.status_code == 412
    made = await http.put(url, json=course("a"), headers=AUTHOR)
    tag = (await http.get(url, headers=AUTHOR)).headers["etag"]
    assert made.headers["etag"] == tag
    mine = {**AUTHOR, "If-Match": tag}
    assert (await http.put(url, json=course("b"), headers=mine)).status_code == 200
    late = await http.put(url, json=course("c"), headers=mine)
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert (await http.get(url, headers=AUTHOR)).json()["version"] == 2


async def test_courses_are_listed_page_by_page(http: httpx.AsyncClient) -> None:
    for number in range(5):
        await http.put(f"/api/v1/courses/c{number}", json=course("a", "b"), headers=AUTHOR)
    found: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        answer = (await http.get("/api/v1/courses", params=params, headers=AUTHOR)).json()
        found += [item["courseId"] for item in answer["items"]]
        cursor = answer["nextCursor"]
        if cursor is None:
            break
    assert found == [f"c{number}" for number in range(5)]
    assert answer["items"][0]["totalChapters"] == 2
    for wrong in ({"limit": "0"}, {"limit": "1001"}, {"cursor": "nonsense"}, {"cursor": "WzFd"}):
        assert (await http.get("/api/v1/courses", params=wrong, headers=AUTHOR)).status_code == 422


async def test_rights_to_read_and_write_the_catalogue(http: httpx.AsyncClient) -> None:
    url = "/api/v1/courses/x"
    for who, status in {
        "": 401,
        "learner:ada": 403,
        "facilitator:fay": 403,
        "manager": 403,
        "operator": 403,
        "viewer": 403,
        "author": 201,
        "service": 200,
        "admin": 200,
    }.items():
        assert (await http.put(url, json=course("a"), headers=as_(who))).status_code == status, who
        read = (await http.get(url, headers=as_(who))).status_code
        assert read == (401 if not who else 404 if status == 403 else 200), who
        listed = (await http.get(f"{url}/enrolments", headers=as_(who))).status_code
        not_for_learners = who.startswith(("learner", "facilitator"))
        assert listed == (403 if not_for_learners else read), who


async def test_enrolling_twice_is_one_enrolment_in_the_version_of_the_first(
    http: httpx.AsyncClient,
) -> None:
    await http.put("/api/v1/courses/x", json=course("a"), headers=AUTHOR)
    url = "/api/v1/courses/x/enrolments"
    first = await http.put(f"{url}/ada", headers=SERVICE)
    assert first.status_code == 201
    assert first.json() == {
        "userId": "ada",
        "courseId": "x",
        "version": 1,
        "attempt": 1,
        "status": "registered",
        "enrolledAt": first.json()["enrolledAt"],
        "completedAt": None,
        "approved": False,
        "endedAt": None,
    }
    await http.put("/api/v1/courses/x", json=course("b"), headers=AUTHOR)
    again = await http.put(f"{url}/ada", headers=SERVICE)
    assert (again.status_code, again.json()) == (200, first.json())
    await http.put(f"{url}/bob", headers=SERVICE)
    page = (await http.get(url, params={"limit": 1}, headers=SERVICE)).json()
    rest = await http.get(url, params={"cursor": page["nextCursor"]}, headers=SERVICE)
    items = page["items"] + rest.json()["items"]
    assert [(item["userId"], item["version"]) for item in items] == [("ada", 1), ("bob", 2)]


async def test_an_unknown_course_has_no_enrolments(http: httpx.AsyncClient) -> None:
    url = "/api/v1/courses/nowhere/enrolments"
    assert (await http.put(f"{url}/ada", headers=SERVICE)).status_code == 404
    assert (await http.get(url, headers=SERVICE)).status_code == 404


async def test_only_a_service_may_approve_and_the_hook_runs_once(
    http: httpx.AsyncClient, catalogue: Catalogue
) -> None:
    heard: list[tuple[str, bool]] = []

    async def listen(tx: Tx, enrolment: Enrolment) -> None:
        heard.append((enrolment.user_id, enrolment.approved))

    catalogue.on_enrolment.append(listen)
    await http.put("/api/v1/courses/x", json=course("a"), headers=AUTHOR)
    url = "/api/v1/courses/x/enrolments/ada"
    assert (await http.put(url, json={"approved": True}, headers=AUTHOR)).status_code == 403
    assert (await http.put(url, json={"approvd": True}, headers=SERVICE)).status_code == 422
    assert (await http.put(url, headers=AUTHOR)).status_code == 201
    for _ in range(2):
        approved = await http.put(url, json={"approved": True}, headers=SERVICE)
        assert (approved.status_code, approved.json()["approved"]) == (200, True)
    assert heard == [("ada", False), ("ada", True)]


async def test_thousands_of_pairs_are_one_search_of_the_primary_key(
    sqlite: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = sqlite
    pairs = [(f"u{number} \"'ü", f"c{number % 3}") for number in range(3_000)]
    new = [Enrolment(*pair, attempt, 1, "registered", 1, 0) for pair in pairs for attempt in (2, 1)]
    async with db.write() as tx:
        assert await api.add_enrolments(tx, new) == 6_000
        assert await api.add_enrolments(tx, new[:5]) == 0
    statements: list[tuple[Any, Any]] = []
    fetch_by_keys_into = SqliteTx.fetch_by_keys_into

    async def watched(self: SqliteTx, of: Any, sql: str, keys: Any) -> list[Any]:
        statements.append((sql, keys))
        return await fetch_by_keys_into(self, of, sql, keys)

    async with db.read() as tx:
        monkeypatch.setattr(SqliteTx, "fetch_by_keys_into", watched)
        found = await api.enrolments(tx, [*pairs, ("stranger", "c0")])
        monkeypatch.undo()
        [asked] = statements
        sql, values = next(keyed_statements(*asked))
        plan = [str(row[3]) for row in await tx.fetch(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert set(found) == set(pairs)
    assert all([each.attempt for each in attempts] == [1, 2] for attempts in found.values())
    assert any(line.startswith("SEARCH e USING PRIMARY KEY") for line in plan), plan
    assert not any("TEMP B-TREE" in line or line.startswith("SCAN e") for line in plan), plan


async def test_a_completion_date_that_is_set_never_changes(db: Database) -> None:
    async with db.write() as tx:
        await api.add_enrolments(tx, [Enrolment("ada", "x", 1, 1, "registered", 5, 0)])
        assert await api.mark_completed(tx, [("ada", "x", 1, 100)]) == 1
        assert await api.mark_completed(tx, [("ada", "x", 1, 200)]) == 0
        await api.update_enrolments(tx, [Enrolment("ada", "x", 1, 2, "expired", 5, 0, 300, True)])
        (after,) = (await api.enrolments(tx, [("ada", "x")]))[("ada", "x")]
    assert after == Enrolment("ada", "x", 1, 2, "expired", 5, 0, 100, True)


async def test_two_concurrent_publishes_create_two_versions(http: httpx.AsyncClient) -> None:
    versions: list[int] = []

    async def publish(chapter: str) -> None:
        answer = await http.put("/api/v1/courses/x", json=course(chapter), headers=AUTHOR)
        versions.append(answer.json()["version"])

    async with anyio.create_task_group() as tasks:
        for chapter in "abcdef":
            tasks.start_soon(publish, chapter)
    assert sorted(versions) == [1, 2, 3, 4, 5, 6]


async def test_many_versions_of_many_courses_are_read_at_once(
    http: httpx.AsyncClient, db: Database
) -> None:
    for id in ("x", "y"):
        for chapter in "abc":
            await http.put(f"/api/v1/courses/{id}", json=course(chapter), headers=AUTHOR)
    async with db.read() as tx:
        found = await api.courses_at(tx, [("x", 1), ("x", 3), ("y", 2), ("y", 9), ("z", 1)])
        assert await api.courses_at(tx, []) == {}
        assert await api.known_chapters(tx, "x") == {"a", "b", "c"}
        assert await api.known_chapters(tx, "z") == frozenset()
        with pytest.raises(NotFound):
            await api.course_at(tx, "y", 9)
    assert {key: list(each.chapters) for key, each in found.items()} == {
        ("x", 1): ["a"],
        ("x", 3): ["c"],
        ("y", 2): ["b"],
    }


async def test_a_cursor_of_another_kind_is_refused(http: httpx.AsyncClient) -> None:
    await http.put("/api/v1/courses/x", json=course("a"), headers=AUTHOR)
    for key in (
        b'["ada", true]',
        b'["ada", 99999999999999999999999]',
        b'["ada"]',
        b"{}",
        b"[[], 1]",
    ):
        params = {"cursor": base64.urlsafe_b64encode(key).decode()}
        answer = await http.get("/api/v1/courses/x/enrolments", params=params, headers=AUTHOR)
        assert answer.status_code == 422, key


async def test_dependents_are_the_courses_with_the_prerequisite_in_any_version(
    http: httpx.AsyncClient, db: Database
) -> None:
    asks = {"type": "prerequisite", "courseId": "basics"}
    await http.put("/api/v1/courses/x", json=course("a", criteria=asks), headers=AUTHOR)
    await http.put("/api/v1/courses/x", json=course("a"), headers=AUTHOR)
    async with db.read() as tx:
        assert await api.dependent_courses(tx, ["basics", "x"]) == {"basics": frozenset({"x"})}


async def test_the_tables_are_as_the_code_declares_them(database: Path | str) -> None:
    stores = (store, people_store, completion_store)
    ours = {
        table.name
        for each in stores
        for table in vars(each).values()
        if isinstance(table, sqlalchemy.Table)
    }
    assert ours >= {"course", "person", "completion"}
    differences = (await asyncio.to_thread(migrate.schema_state, database)).differences
    named = re.compile(r"Table\('(\w+)'|table=<(\w+)>")
    assert not [each for each in differences if any(set(hit) & ours for hit in named.findall(each))]


async def test_the_openapi_document_describes_a_course(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    paths, schemas = document["paths"], document["components"]["schemas"]
    body = paths["/api/v1/courses/{courseId}"]["put"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/CourseBody"}
    assert schemas["CourseBody"]["required"] == ["title", "units"]
    assert schemas["AtLeastCriterion"]["properties"]["n"]["minimum"] == 1
    names = [each["name"] for each in paths["/api/v1/courses/{courseId}"]["put"]["parameters"]]
    assert names[:2] == ["courseId", "dryRun"]
