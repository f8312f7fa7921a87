"""Full lessons by the sandbox's language model, regenerated and filled part by part."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
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
from homeroom.errors import Conflict, Invalid
from homeroom.lessonplans import routes
from homeroom.lessonplans.api import ModelConfig, RuleBasedGenerator
from homeroom.lessonplans.lesson import LessonBody
from homeroom.lessonplans.lesson_parts import OPTIONAL_PARTS, PARTS, SECTIONS, part_value
from homeroom.lessonplans.model.generator import ModelGenerator
from homeroom.lessonplans.plan import PlannedLesson, plan_document
from homeroom.sandbox.server import model_environment, serve
from homeroom.sandbox.state import SandboxConfig

pytestmark = [pytest.mark.anyio, pytest.mark.service]
AUTHOR = as_("author")
ONE = curriculum(modules=1, lessons=1)
MODEL = "openai:sandbox-teacher"


class Sandbox:
    """The address and the control API of a running sandbox."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url, self.http = url, http
        self.settings = model_environment(url, SandboxConfig())

    async def fail(self, answer: str, **more: Any) -> None:
        body = {"answer": answer, **more}
        told = await self.http.post(f"{self.url}/control/model/faults", json=body)
        assert told.status_code == 200, told.text

    async def requests(self) -> list[dict[str, Any]]:
        """Return the questions that the model received, repairs as they were put."""
        found = await self.http.get(f"{self.url}/control/received?server=llm")
        items = found.json()["items"]
        assert {item["outcome"] for item in items} <= {"accepted"}, items
        return [json.loads(item["body"]["messages"][-1]["content"]) for item in items]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    task = asyncio.create_task(serve(SandboxConfig(), started=port.set_result, stop=stop))
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as http:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield_url = f"http://127.0.0.1:{await port}"
        yield Sandbox(yield_url, http)
    stop.set()
    await asyncio.wait_for(task, PATIENCE_SECONDS)


@pytest.fixture
async def app(sqlite: SqliteDatabase, sandbox: Sandbox) -> AsyncIterator[PlanApplication]:
    config = ModelConfig(
        kind="openai",
        model=sandbox.settings["HOMEROOM_LLM_MODEL"],
        url=sandbox.settings["HOMEROOM_LLM_URL"],
        key=sandbox.settings["HOMEROOM_LLM_API_KEY"],
    )
    built = build_plan_application(sqlite, ModelGenerator(sqlite, config))
    yield built
    await built.plans.close()


async def first_lesson(app: PlanApplication, plan_id: str) -> PlannedLesson:
    return (await app.plan(plan_id)).lessons[0]


def body_of(lesson: PlannedLesson) -> LessonBody:
    assert lesson.body is not None
    return lesson.body


async def test_a_model_writes_every_part_of_every_lesson(
    app: PlanApplication, sandbox: Sandbox
) -> None:
    plan_id = await app.create_and_start()
    status = await app.run(plan_id)
    plan = await app.plan(plan_id)
    assert (status.status, status.kind, status.open_places) == ("complete", "plan", 0)
    assert status.all_complete
    assert plan.generators == [MODEL]
    for lesson in plan.lessons:
        body = body_of(lesson)
        assert all(part_value(body, part) for part in PARTS if part not in OPTIONAL_PARTS)
        assert sum(each.minutes for each in body.activities) == lesson.slot.minutes
    assert len(await sandbox.requests()) == len(plan.lessons)
    [asked, *_] = await sandbox.requests()
    assert asked["write"] == list(PARTS)


async def test_equal_curricula_give_equal_full_lessons(app: PlanApplication) -> None:
    documents = []
    for _ in range(2):
        plan_id = await app.create_and_start()
        await app.run(plan_id)
        document = plan_document(await app.plan(plan_id))
        lessons = [lesson for module in document["modules"] for lesson in module["lessons"]]
        for lesson in lessons:
            del lesson["provenance"]
        documents.append(json.dumps(lessons))
    assert documents[0] == documents[1]


FAULTS = {
    "wrong_minutes": ({"minutes"}, {"activities"}),
    "answer_among_distractors": (
        {"answer_is_distractor"},
        {"starterQuiz", "checks", "exitQuiz"},
    ),
    "duplicate_question": ({"duplicate"}, {"starterQuiz", "checks", "exitQuiz"}),
    "invented_link": ({"invented_link"}, {"keyPoints", "references"}),
    "invented_outcome": (
        {"invented_outcome", "not_assessed"},
        {"assessments", "starterQuiz", "checks", "exitQuiz"},
    ),
    "open_place": ({"open_place"}, {"homework"}),
    "too_long": ({"too_long"}, {"vocabulary"}),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_only_the_parts_that_fail_are_asked_for_again_and_become_gaps(
    app: PlanApplication, sandbox: Sandbox, fault: str
) -> None:
    codes, parts = FAULTS[fault]
    await sandbox.fail(fault, times=1)
    repaired = await app.create_and_start(ONE)
    assert (await app.run(repaired)).lessons_with_gaps == 0
    first, second = await sandbox.requests()
    assert first["write"] == list(PARTS)
    assert set(second["question"]["write"]) == parts
    assert set(second["lastAnswer"]) == parts

    await sandbox.fail(fault)
    failing = await app.create_and_start(ONE)
    assert (await app.run(failing)).lessons_with_gaps == 1
    lesson = await first_lesson(app, failing)
    assert {gap.code for gap in lesson.gaps} == codes
    assert {gap.field for gap in lesson.gaps} == parts
    assert lesson.generator == f"{MODEL}, rule-based" or not any(
        part_value(body_of(lesson), part) for part in parts
    )
    assert sum(each.minutes for each in body_of(lesson).activities) == lesson.slot.minutes


async def test_a_missing_part_is_asked_for_again(app: PlanApplication, sandbox: Sandbox) -> None:
    await sandbox.fail("missing_part", times=1)
    plan_id = await app.create_and_start(curriculum(modules=1, lessons=1))
    await app.run(plan_id)
    lesson = await first_lesson(app, plan_id)
    await app.plans.regenerate_lesson(
        plan_id, lesson.slot.id, ACTOR, overwrite_edits=False, sections=["exitQuiz"]
    )
    await sandbox.fail("missing_part", times=1)
    status = await app.run(plan_id)
    assert status.lessons_with_gaps == 0
    assert [one.get("reasons") for one in await sandbox.requests()][-1] == [
        "exitQuiz: Field required"
    ]


async def test_a_section_is_regenerated_and_edits_stay(
    app: PlanApplication, sandbox: Sandbox
) -> None:
    plan_id = await app.create_and_start(ONE)
    await app.run(plan_id)
    before = body_of(lesson := await first_lesson(app, plan_id))
    terms = [{"term": "crumb", "definition": "The inside of bread."}]
    edit = {"vocabulary": terms, "homework": "By hand."}
    await app.plans.edit_lesson(plan_id, lesson.slot.id, edit, ACTOR)

    async def regenerate(*sections: str, overwrite: bool = False) -> LessonBody:
        await app.plans.regenerate_lesson(
            plan_id, lesson.slot.id, ACTOR, overwrite_edits=overwrite, sections=sections
        )
        assert (await app.run(plan_id)).status == "complete"
        return body_of(await first_lesson(app, plan_id))

    after = await regenerate("overview")
    asked = (await sandbox.requests())[-1]
    assert asked["write"] == [part for part in SECTIONS["overview"] if part != "vocabulary"]
    assert asked["keep"]["vocabulary"] == terms
    assert after.vocabulary[0].term == "crumb"
    assert after.homework == "By hand."
    assert (after.activities, after.checks) == (before.activities, before.checks)
    kept = await first_lesson(app, plan_id)
    assert kept.edited, "it still holds a person's words"
    assert kept.edited_parts == ("vocabulary", "homework")

    with pytest.raises(Conflict):
        await regenerate("vocabulary", "homework")
    with pytest.raises(Invalid):
        await regenerate("poems")
    after = await regenerate("vocabulary", overwrite=True)
    assert after.vocabulary == before.vocabulary
    assert after.homework == "By hand."
    assert (await first_lesson(app, plan_id)).edited_parts == ("homework",)
    await regenerate("support", overwrite=True)
    assert not (await first_lesson(app, plan_id)).edited


async def test_a_section_that_fails_again_stays_as_it_was(
    app: PlanApplication, sandbox: Sandbox
) -> None:
    plan_id = await app.create_and_start(ONE)
    await app.run(plan_id)
    before = body_of(lesson := await first_lesson(app, plan_id))
    await sandbox.fail("wrong_minutes")
    await app.plans.regenerate_lesson(
        plan_id, lesson.slot.id, ACTOR, overwrite_edits=False, sections=["teaching"]
    )
    await app.run(plan_id)
    lesson = await first_lesson(app, plan_id)
    assert [gap.code for gap in lesson.gaps] == ["minutes"]
    assert body_of(lesson).activities == before.activities
    assert lesson.generator == MODEL


async def test_a_teachers_outline_is_filled_and_everything_else_stays(
    app: PlanApplication, sqlite: SqliteDatabase, sandbox: Sandbox
) -> None:
    outline = build_plan_application(sqlite, RuleBasedGenerator())
    plan_id = await outline.create_and_start()
    status = await outline.run(plan_id)
    assert status.kind == "outline"
    with pytest.raises(Conflict):
        await outline.plans.fill(plan_id, ACTOR)
    lesson = await first_lesson(outline, plan_id)
    edit = {"notes": "By hand.", "misconceptions": [{"misconception": "A", "correction": "B"}]}
    await outline.plans.edit_lesson(plan_id, lesson.slot.id, edit, ACTOR)
    before = body_of(await first_lesson(outline, plan_id))

    started = await app.plans.fill(plan_id, ACTOR)
    assert started.jobs_queued == 1
    status = await app.run(plan_id)
    assert (status.status, status.kind, status.open_places) == ("complete", "plan", 0)
    plan = await app.plan(plan_id)
    after = body_of(plan.lessons[0])
    assert after.notes == "By hand."
    assert after.misconceptions == before.misconceptions
    assert after.title == before.title
    for old, new in zip(before.activities, after.activities, strict=True):
        assert (old.title, old.minutes, old.learners_do) == (
            new.title,
            new.minutes,
            new.learners_do,
        )
        assert old.facilitator_does.split("[add:")[0] in new.facilitator_does
    assert after.explanation is not None
    assert after.exit_quiz
    assert plan.lessons[0].edited
    assert plan.generators == [MODEL, "rule-based"]
    assert plan.lessons[0].generator == f"{MODEL}, rule-based"
    requests = await sandbox.requests()
    assert len(requests) == len(plan.lessons), "one call a lesson"
    assert "misconceptions" not in requests[0]["write"]
    assert "places" in requests[0]["write"]

    again = await app.plans.fill(plan_id, ACTOR)
    assert again.jobs_queued == 0, "nothing is empty any more"
    assert len(await sandbox.requests()) == len(requests)


async def test_sections_and_fill_over_http(app: PlanApplication, sqlite: SqliteDatabase) -> None:
    async with client(routes.router(sqlite, AUTH, app.plans)) as api, app.run_worker():
        plan_id = await app.create_and_start(ONE)
        await app.wait_for_status(plan_id, "complete")
        lesson = (await first_lesson(app, plan_id)).slot.id
        url = f"/api/v3/workflow/{plan_id}/step10"
        values = {"vocabulary/0/definition": "[add: what it means]", "checks/1": None}
        edited = await api.patch(f"{url}/lessons/{lesson}", json={"values": values}, headers=AUTHOR)
        assert edited.status_code == 200, edited.text
        data = edited.json()["data"]
        assert data["editedParts"] == ["vocabulary", "checks"]
        assert data["openPlaces"] == [{"field": "vocabulary/0/definition", "asks": "what it means"}]
        wrong = await api.patch(
            f"{url}/lessons/{lesson}", json={"values": {"checks/9/answer": "x"}}, headers=AUTHOR
        )
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["pointer"] == "#/values/checks~19~1answer"

        filled = await api.post(f"{url}/fill", headers=AUTHOR)
        assert filled.status_code == 202, filled.text
        await app.wait_for_status(plan_id, "complete")
        assert (await app.plan(plan_id)).kind == "plan"
        for query in ("section=overview&section=exitQuiz", "fill=true"):
            again = await api.post(f"{url}/lessons/{lesson}/regenerate?{query}", headers=AUTHOR)
            assert again.status_code == 202, again.text
            await app.wait_for_status(plan_id, "complete")
        unknown = await api.post(f"{url}/lessons/{lesson}/regenerate?section=poems", headers=AUTHOR)
        assert unknown.status_code == 422

        viewer = await api.delete(f"/api/v3/workflow/{plan_id}", headers=as_("viewer"))
        assert viewer.status_code == 403
        gone = await api.delete(f"/api/v3/workflow/{plan_id}", headers=AUTHOR)
        assert (gone.status_code, gone.content) == (204, b"")
        missing = await api.delete(f"/api/v3/workflow/{plan_id}", headers=AUTHOR)
        assert missing.status_code == 404
