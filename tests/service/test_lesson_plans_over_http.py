"""Lesson plans over HTTP with the real worker, from a curriculum to an export."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.api_client import AUTH, as_, client
from tests.support.condition import PATIENCE_SECONDS
from tests.support.plan_application import (
    ACTOR,
    PlanApplication,
    build_plan_application,
    curriculum,
)

from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.errors import Conflict
from homeroom.jobs import job_actions
from homeroom.lessonplans import routes
from homeroom.lessonplans.api import LessonGenerator, RuleBasedGenerator
from homeroom.lessonplans.curriculum_file import read_curriculum_file
from homeroom.lessonplans.generator import GeneratorError, LessonResult, LessonTask

pytestmark = [pytest.mark.anyio, pytest.mark.service]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples/curricula/data-skills.yaml"
AUTHOR = as_("author")


class GatedGenerator(LessonGenerator):
    """Generates by rules, one lesson per permit; fails with ``failure`` if it is set."""

    name = "gated"
    is_model = False

    def __init__(self) -> None:
        self.requested: list[str] = []
        self.permits = asyncio.Semaphore(0)
        self.called = asyncio.Event()
        self.changed = asyncio.Condition()
        self.failure: GeneratorError | None = None

    def permit(self, count: int) -> None:
        for _ in range(count):
            self.permits.release()

    async def wait_until_requested(self, count: int) -> None:
        """Wait until a number of lessons was requested."""
        async with asyncio.timeout(PATIENCE_SECONDS), self.changed:
            await self.changed.wait_for(lambda: len(self.requested) >= count)

    async def write(self, task: LessonTask) -> LessonResult:
        self.requested.append(task.slot.number)
        self.called.set()
        async with self.changed:
            self.changed.notify_all()
        await self.permits.acquire()
        if self.failure is not None:
            raise self.failure
        written = await RuleBasedGenerator().write(task)
        body = written.body.model_copy(update={"notes": f"written {len(self.requested)}"})
        return LessonResult(body, self.name)

    async def close(self) -> None:
        """Do nothing: this generator has no connections."""


@pytest.fixture
def gated() -> GatedGenerator:
    return GatedGenerator()


@pytest.fixture
async def app(db: SqliteDatabase) -> PlanApplication:
    return build_plan_application(db, RuleBasedGenerator())


@pytest.fixture
async def api(db: SqliteDatabase, app: PlanApplication) -> AsyncIterator[httpx.AsyncClient]:
    async with client(routes.router(db, AUTH, app.plans)) as opened:
        yield opened


async def create_plan(api: httpx.AsyncClient, body: dict[str, Any] | None = None) -> str:
    answer = await api.post("/api/v3/workflow", json=body or curriculum(), headers=AUTHOR)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["workflowId"])


async def status_of(api: httpx.AsyncClient, id: str) -> dict[str, Any]:
    answer = await api.get(f"/api/v3/workflow/{id}/step10/status", headers=AUTHOR)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


async def test_the_example_makes_eight_modules_and_150_hours_exactly(
    api: httpx.AsyncClient, app: PlanApplication
) -> None:
    id = await create_plan(api, read_curriculum_file(EXAMPLE.read_bytes(), "yaml", "example"))
    before = await status_of(api, id)
    assert (before["status"], before["progress"], before["jobs"]["total"]) == ("pending", 0, 0)
    assert before["estimatedTimeRemainingSeconds"] is None
    started = await api.post(f"/api/v3/workflow/{id}/step10", headers=AUTHOR)
    assert started.status_code == 202
    assert started.json() == {
        "success": True,
        "data": {
            "workflowId": id,
            "jobsQueued": 1,
            "modulesGenerated": 0,
            "totalModules": 8,
            "estimatedTimeMinutes": 1,
        },
        "message": "Generation started. Each module queues the next one when it is complete.",
    }
    await app.run(id)
    data = await status_of(api, id)
    assert data["status"] == "complete"
    assert data["allComplete"]
    assert (data["modulesGenerated"], data["totalModules"]) == (8, 8)
    assert (data["totalLessons"], data["totalContactHours"]) == (100, 150)
    assert (data["progress"], data["estimatedTimeRemainingSeconds"]) == (100, 0)
    assert data["jobs"]["completed"] == data["jobs"]["total"] == 8
    assert data["jobs"]["details"][7] == {
        "jobId": f"step10.{id}.module-7.1",
        "moduleIndex": 7,
        "state": "completed",
        "progress": 100,
        "attemptsMade": 1,
        "failedReason": None,
    }
    plan = (await api.get(f"/api/v3/workflow/{id}/step10", headers=AUTHOR)).json()["data"]
    assert plan["generator"] == "rule-based"
    minutes = [
        activity["minutes"]
        for module in plan["modules"]
        for lesson in module["lessons"]
        for activity in lesson["activities"]
    ]
    assert sum(minutes) == 150 * 60
    assert all(each["taughtIn"] and each["assessedIn"] for each in plan["coverage"])


async def test_equal_curricula_give_equal_bytes(
    api: httpx.AsyncClient, app: PlanApplication
) -> None:
    texts = []
    for _ in range(2):
        id = await create_plan(api)
        await api.post(f"/api/v3/workflow/{id}/step10", headers=AUTHOR)
        await app.run(id)
        path = f"/api/v3/workflow/{id}/step10/export?format=json"
        plan = json.loads((await api.get(path, headers=AUTHOR)).content)
        del plan["workflowId"], plan["provenance"]
        for module in plan["modules"]:
            for lesson in module["lessons"]:
                del lesson["provenance"]
        texts.append(json.dumps(plan))
    assert texts[0] == texts[1]


async def test_an_invalid_curriculum_is_rejected_with_every_error_and_its_place(
    api: httpx.AsyncClient,
) -> None:
    body = curriculum(title="")
    body["modules"][0]["contactHours"] = 1.005
    body["modules"][1]["outcomes"][0]["id"] = "m1.o1"
    body["modules"][1]["outcomes"][1]["bloomLevel"] = "ponder"
    body["preferences"]["timeZone"] = "Europe/Atlantis"
    body["colour"] = "red"
    answer = await api.post("/api/v3/workflow", json=body, headers=AUTHOR)
    assert answer.status_code == 422
    assert {each["pointer"] for each in answer.json()["errors"]} == {
        "#/title",
        "#/colour",
        "#/modules/0/contactHours",
        "#/modules/1/outcomes/0/id",
        "#/modules/1/outcomes/1/bloomLevel",
        "#/preferences/timeZone",
    }
    listed = await api.get("/api/v3/workflow", headers=AUTHOR)
    assert listed.json()["items"] == []


@pytest.mark.parametrize(
    ("who", "method", "path", "expected"),
    [
        (None, "GET", "", 401),
        ("learner:ada", "GET", "", 403),
        ("viewer", "POST", "", 403),
        ("viewer", "GET", "", 200),
        ("facilitator:f", "GET", "", 200),
        ("facilitator:f", "POST", "/{id}/step10", 403),
        ("service", "POST", "/{id}/step10", 202),
        ("facilitator:f", "PATCH", "/{id}/step10/lessons/any", 403),
        ("author", "GET", "/nothing/step10/status", 404),
        ("author", "POST", "/nothing/step10", 404),
        ("author", "POST", "/{id}/step10/cancel", 409),
        ("author", "POST", "/{id}/step10/retry", 409),
        ("author", "POST", "/{id}/step10/modules/nothing/regenerate", 404),
        ("author", "GET", "/{id}/step10/export?format=exe", 422),
    ],
)
async def test_roles_and_missing_plans(
    api: httpx.AsyncClient, who: str | None, method: str, path: str, expected: int
) -> None:
    id = await create_plan(api)
    url = "/api/v3/workflow" + path.replace("{id}", id)
    answer = await api.request(method, url, headers={} if who is None else as_(who), json={})
    assert answer.status_code == expected, answer.text


async def test_starting_again_while_one_runs_queues_nothing(
    db: SqliteDatabase, gated: GatedGenerator
) -> None:
    app = build_plan_application(db, gated)
    async with client(routes.router(db, AUTH, app.plans)) as api, app.run_worker():
        id = await create_plan(api)
        url = f"/api/v3/workflow/{id}/step10"
        answers = await asyncio.gather(*(api.post(url, headers=AUTHOR) for _ in range(5)))
        assert sorted(each.json()["data"]["jobsQueued"] for each in answers) == [0, 0, 0, 0, 1]
        await gated.called.wait()
        again = (await api.post(url, headers=AUTHOR)).json()
        assert again["data"]["jobsQueued"] == 0
        assert "running already" in again["message"]
        refused = await api.post(f"{url}/modules/m2/regenerate", headers=AUTHOR)
        assert refused.status_code == 409
        gated.permit(10)
        await app.wait_for_status(id, "complete")
        after = (await api.post(url, headers=AUTHOR)).json()
        assert after["data"] | {"estimatedTimeMinutes": 0} == {
            "workflowId": id,
            "jobsQueued": 0,
            "modulesGenerated": 2,
            "totalModules": 2,
            "estimatedTimeMinutes": 0,
        }
    assert gated.requested == ["1.1", "1.2", "2.1", "2.2"], "each lesson once, module after module"


async def test_progress_grows_lesson_by_lesson_and_unchanged_status_is_not_sent_again(
    db: SqliteDatabase, gated: GatedGenerator
) -> None:
    app = build_plan_application(db, gated)
    async with client(routes.router(db, AUTH, app.plans)) as api, app.run_worker():
        id = await create_plan(api)
        url = f"/api/v3/workflow/{id}/step10"
        await api.post(url, headers=AUTHOR)
        seen = []
        for number in range(4):
            await gated.wait_until_requested(number + 1)
            data = await status_of(api, id)
            seen.append(data["progress"])
            known = data["estimatedTimeRemainingSeconds"]
            assert (known is None) == (number == 0), "unknown until one lesson is written"
            assert data["status"] == "in_progress"
            assert data["heartbeatAt"] is not None
            gated.permit(1)
        assert seen == [0, 25, 50, 75]
        await app.wait_for_status(id, "complete")
        first = await api.get(f"{url}/status", headers=AUTHOR)
        tag = first.headers["etag"]
        second = await api.get(f"{url}/status", headers={**AUTHOR, "If-None-Match": tag})
        assert (second.status_code, second.content) == (304, b"")
        assert first.json()["data"]["heartbeatAt"] is None


async def test_a_plan_is_regenerated_by_module_and_lesson_and_edits_survive(
    db: SqliteDatabase, gated: GatedGenerator
) -> None:
    app = build_plan_application(db, gated)
    gated.permit(1_000)
    async with client(routes.router(db, AUTH, app.plans)) as api, app.run_worker():
        id = await create_plan(api)
        url = f"/api/v3/workflow/{id}/step10"
        assert (await api.post(url, headers=AUTHOR)).status_code == 202
        await app.wait_for_status(id, "complete")
        lessons = [lesson.slot.id for lesson in (await app.plan(id)).lessons]
        edit = {"title": "My own title", "notes": "by hand", "homework": None, "revision": 1}
        answer = await api.patch(f"{url}/lessons/{lessons[0]}", json=edit, headers=AUTHOR)
        assert answer.status_code == 200, answer.text
        changed = answer.json()["data"]
        assert (changed["title"], changed["edited"], changed["revision"]) == (
            "My own title", True, 2,
        )  # fmt: skip
        stale = await api.patch(f"{url}/lessons/{lessons[0]}", json=edit, headers=AUTHOR)
        assert stale.status_code == 409

        gated.requested.clear()
        again = await api.post(f"{url}/modules/m1/regenerate", headers=AUTHOR)
        assert again.status_code == 202
        assert "No other module follows" in again.json()["message"]
        await app.wait_for_status(id, "complete")
        assert gated.requested == ["1.2"], "the edited lesson is left alone, and no module follows"
        kept = await api.post(f"{url}/lessons/{lessons[0]}/regenerate", headers=AUTHOR)
        assert kept.status_code == 409
        await api.post(f"{url}/lessons/{lessons[3]}/regenerate", headers=AUTHOR)
        await app.wait_for_status(id, "complete")
        assert gated.requested == ["1.2", "2.2"]
        assert (await app.plan(id)).lessons[0].title == "My own title"

        await api.post(f"{url}/modules/m1/regenerate?overwriteEdits=true", headers=AUTHOR)
        await app.wait_for_status(id, "complete")
        plan = await app.plan(id)
    assert gated.requested == ["1.2", "2.2", "1.1", "1.2"]
    assert not plan.lessons[0].edited
    assert plan.lessons[0].title != "My own title"


async def test_an_edit_that_breaks_the_lesson_is_refused_with_every_reason(
    api: httpx.AsyncClient, app: PlanApplication
) -> None:
    id = await create_plan(api)
    lesson = (await app.plan(id)).lessons[0].slot.id
    url = f"/api/v3/workflow/{id}/step10/lessons/{lesson}"
    early = await api.patch(url, json={"title": "Too early"}, headers=AUTHOR)
    assert early.status_code == 409
    await api.post(f"/api/v3/workflow/{id}/step10", headers=AUTHOR)
    await app.run(id)
    body = (await app.plan(id)).lessons[0].body
    assert body is not None
    activities = body.model_dump(mode="json", by_alias=True)["activities"][:2]
    bad = await api.patch(url, json={"activities": activities, "assessments": []}, headers=AUTHOR)
    assert bad.status_code == 422
    assert [each["code"] for each in bad.json()["errors"]] == ["minutes", "not_assessed"]
    taken = await api.patch(url, json={"title": "explain step 2.2"}, headers=AUTHOR)
    assert [each["code"] for each in taken.json()["errors"]] == ["title_taken"]
    unknown = await api.patch(url, json={"minutes": 5}, headers=AUTHOR)
    assert unknown.status_code == 422
    assert (await app.plan(id)).lessons[0].body == body, "nothing was changed"


async def test_an_edit_during_regeneration_wins(db: SqliteDatabase, gated: GatedGenerator) -> None:
    app = build_plan_application(db, gated)
    gated.permit(4)
    async with app.run_worker():
        id = await app.create_and_start()
        await app.wait_for_status(id, "complete")
        lesson = (await app.plan(id)).lessons[0].slot.id
        gated.called.clear()
        await app.plans.regenerate_module(id, "m1", ACTOR, overwrite_edits=False)
        await gated.called.wait()
        await app.plans.edit_lesson(id, lesson, {"notes": "by hand"}, ACTOR)
        gated.permit(10)
        await app.wait_for_status(id, "complete")
        plan = await app.plan(id)
    assert plan.lessons[0].edited
    assert plan.lessons[0].body is not None
    assert plan.lessons[0].body.notes == "by hand"


async def test_a_failed_module_shows_its_reason_and_an_operator_may_retry_its_job(
    db: SqliteDatabase, gated: GatedGenerator
) -> None:
    app = build_plan_application(db, gated)
    gated.failure = GeneratorError("the model is gone", is_retryable=False)
    gated.permit(1)
    async with client(routes.router(db, AUTH, app.plans)) as api, app.run_worker():
        id = await create_plan(api)
        await api.post(f"/api/v3/workflow/{id}/step10", headers=AUTHOR)
        await app.wait_for_status(id, "failed")
        data = await status_of(api, id)
        assert data["jobs"]["failed"] == 1
        [detail] = data["jobs"]["details"]
        assert detail["failedReason"] == "the model is gone"
        gated.failure = None
        gated.permit(10)
        async with db.write() as tx:
            await job_actions.retry(tx, app.kernel.registry, detail["jobId"])
        await app.wait_for_status(id, "complete")


async def test_a_cancelled_plan_continues_from_its_last_lesson(
    db: SqliteDatabase, gated: GatedGenerator
) -> None:
    app = build_plan_application(db, gated)
    gated.permit(1)
    async with client(routes.router(db, AUTH, app.plans)) as api, app.run_worker():
        id = await create_plan(api)
        url = f"/api/v3/workflow/{id}/step10"
        await api.post(url, headers=AUTHOR)
        await gated.wait_until_requested(2)
        answer = await api.post(f"{url}/cancel", headers=AUTHOR)
        assert answer.json()["data"] == {"workflowId": id, "jobsCancelled": 1}
        await app.wait_for_status(id, "cancelled")
        assert (await status_of(api, id))["progress"] == 25
        gated.permits = asyncio.Semaphore(10)
        assert (await api.post(f"{url}/retry", headers=AUTHOR)).json()["data"]["jobsQueued"] == 1
        await app.wait_for_status(id, "complete")
    assert gated.requested == ["1.1", "1.2", "1.2", "2.1", "2.2"]
    with pytest.raises(Conflict):
        await app.plans.cancel(id, ACTOR)


async def test_a_file_may_be_named_in_any_alphabet(api: httpx.AsyncClient) -> None:
    id = await create_plan(api, {**curriculum(), "title": "Основы"})
    answer = await api.get(f"/api/v3/workflow/{id}/step10/export?format=md", headers=AUTHOR)
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"lesson-plans.md\"; filename*=UTF-8''"
        "%D0%BE%D1%81%D0%BD%D0%BE%D0%B2%D1%8B.md"
    )


@pytest.mark.parametrize("form", ["json", "md", "docx", "pdf", "csv", "ics", "imscc", "imscc-1.3"])
async def test_a_plan_can_be_exported_before_and_after_it_is_written(
    api: httpx.AsyncClient, app: PlanApplication, form: str
) -> None:
    body = curriculum()
    body["preferences"] = {**body.get("preferences", {}), "startsOn": "2027-01-11"}
    id = await create_plan(api, body)
    path = f"/api/v3/workflow/{id}/step10/export?format={form}"
    assert (await api.get(path, headers=AUTHOR)).status_code == 200
    await api.post(f"/api/v3/workflow/{id}/step10", headers=AUTHOR)
    await app.run(id)
    answer = await api.get(path, headers=AUTHOR)
    assert answer.status_code == 200
    name = f"bread-for-beginners.{form.removesuffix('-1.3')}"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert len(answer.content) > 500


async def test_plans_are_listed_newest_first(api: httpx.AsyncClient) -> None:
    ids = [await create_plan(api) for _ in range(3)]
    first = (await api.get("/api/v3/workflow?limit=2", headers=AUTHOR)).json()
    assert [item["workflowId"] for item in first["items"]] == [ids[2], ids[1]]
    cursor = first["nextCursor"]
    second = (await api.get(f"/api/v3/workflow?limit=2&cursor={cursor}", headers=AUTHOR)).json()
    assert [item["workflowId"] for item in second["items"]] == [ids[0]]
    for who, told in (
        ("author", True), ("viewer", True), ("facilitator:f", False), ("manager:m", False)
    ):  # fmt: skip
        listed = (await api.get("/api/v3/workflow", headers=as_(who))).json()["items"]
        assert len(listed) == 3
        assert {each["createdBy"] is not None for each in listed} == {told}
    curricula = (await api.get(f"/api/v3/workflow/{ids[0]}", headers=AUTHOR)).json()
    assert curricula["preferences"]["lessonMinutes"] == 60
    calls = await api.get(f"/api/v3/workflow/{ids[0]}/step10/calls", headers=AUTHOR)
    assert calls.json() == {"items": [], "nextCursor": None}
