"""A plan gets days, moves, and becomes a draft course, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from icalendar import Calendar
from tests.support.api_client import AUTH, as_, client
from tests.support.plan_application import PlanApplication, build_plan_application, curriculum

from homeroom.catalogue import api as catalogue_api
from homeroom.catalogue.api import Catalogue, Course
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.lessonplans import lesson_routes, output_routes, routes
from homeroom.lessonplans.api import RuleBasedGenerator
from homeroom.lessonplans.course_publication import CoursePublisher
from homeroom.lessonplans.export.blocks import Grid
from homeroom.lessonplans.export.print_document import NOTE_LINES, print_plan
from homeroom.lessonplans.export.render_process import render

pytestmark = [pytest.mark.anyio, pytest.mark.service]
AUTHOR, FACILITATOR = as_("author"), as_("facilitator")


@pytest.fixture
async def app(db: SqliteDatabase) -> PlanApplication:
    return build_plan_application(db, RuleBasedGenerator())


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue()


@pytest.fixture
async def api(
    db: SqliteDatabase, app: PlanApplication, catalogue: Catalogue
) -> AsyncIterator[httpx.AsyncClient]:
    plan_routes = routes.router(db, AUTH, app.plans)
    output = output_routes.router(db, AUTH, CoursePublisher(db, catalogue))
    async with client(plan_routes, output, lesson_routes.router(db, AUTH)) as opened:
        yield opened


async def generated(app: PlanApplication, **more: Any) -> str:
    plan_id = await app.create_and_start(curriculum(**more))
    await app.run(plan_id)
    return plan_id


async def stored_course(db: SqliteDatabase, course_id: str) -> Course:
    async with db.read() as tx:
        return (await catalogue_api.current_courses(tx, [course_id]))[course_id]


async def events_of(app: PlanApplication, plan_id: str) -> list[dict[str, Any]]:
    """Return the events of a plan's calendar, rendered in this process: a child takes a second."""
    content = render("ics", await app.plan(plan_id))
    return [
        {
            "uid": str(event["uid"]),
            "begins": event["dtstart"].dt,
            "sequence": int(event["sequence"]),
            "stamp": event["dtstamp"].dt,
        }
        for event in Calendar.from_ical(content).walk("VEVENT")
    ]


async def test_a_calendar_is_refused_until_the_plan_has_a_first_day(
    api: httpx.AsyncClient, app: PlanApplication
) -> None:
    plan_id = await generated(app)
    export = f"/api/v3/workflow/{plan_id}/step10/export?format=ics"
    refused = await api.get(export, headers=FACILITATOR)
    assert refused.status_code == 409
    assert "--starts-on" in refused.text
    answer = await api.patch(
        f"/api/v3/workflow/{plan_id}/schedule", json={"startsOn": "2027-01-11"}, headers=AUTHOR
    )
    assert answer.json()["data"]["firstLessonOn"] == "2027-01-11"
    exported = await api.get(export, headers=FACILITATOR)
    assert exported.status_code == 200
    assert exported.content.count(b"BEGIN:VEVENT") == 4


async def test_a_moved_plan_keeps_its_uids_and_grows_its_sequence(
    api: httpx.AsyncClient, app: PlanApplication
) -> None:
    plan_id = await generated(app)
    path = f"/api/v3/workflow/{plan_id}/schedule"
    await api.patch(path, json={"startsOn": "2027-01-11"}, headers=AUTHOR)
    before = await events_of(app, plan_id)
    breaks = [
        {"title": "Snow", "from": "2027-03-02", "until": "2027-03-03"},
        {"from": "2027-03-05"},
    ]
    answer = await api.patch(
        path,
        json={"startsOn": "2027-03-01", "startTime": "10:30", "timeZone": "Europe/Berlin",
              "breaks": breaks},
        headers=AUTHOR,
    )  # fmt: skip
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert data["revision"] == 2
    assert data["breaks"][1] == {"title": None, "from": "2027-03-05", "until": "2027-03-05"}
    after = await events_of(app, plan_id)
    assert [each["uid"] for each in after] == [each["uid"] for each in before]
    assert [each["sequence"] for each in after] == [each["sequence"] + 1 for each in before]
    assert all(new["stamp"] >= old["stamp"] for new, old in zip(after, before, strict=True))
    assert [f"{each['begins']:%m-%d %H:%M %z}" for each in after] == [
        "03-01 10:30 +0100",
        "03-04 10:30 +0100",
        "03-08 10:30 +0100",
        "03-09 10:30 +0100",
    ]


async def test_an_edit_of_a_lesson_grows_the_sequence_of_its_event_alone(
    api: httpx.AsyncClient, app: PlanApplication
) -> None:
    plan_id = await generated(app, preferences={"lessonMinutes": 60, "startsOn": "2027-01-11"})
    before = await events_of(app, plan_id)
    lesson_id = (await app.plan(plan_id)).lessons[1].slot.id
    edited = await api.patch(
        f"/api/v3/workflow/{plan_id}/step10/lessons/{lesson_id}",
        json={"notes": "Bring the scales."},
        headers=AUTHOR,
    )
    assert edited.status_code == 200
    after = await events_of(app, plan_id)
    grown = [new["sequence"] - old["sequence"] for new, old in zip(after, before, strict=True)]
    assert grown == [0, 1, 0, 0]


async def test_a_schedule_that_says_nothing_new_is_no_revision(
    api: httpx.AsyncClient, app: PlanApplication
) -> None:
    plan_id = await generated(app)
    path = f"/api/v3/workflow/{plan_id}/schedule"
    for _ in range(2):
        answer = await api.patch(path, json={"startsOn": "2027-01-11"}, headers=AUTHOR)
    assert answer.json()["data"]["revision"] == 1
    plan = await app.plan(plan_id)
    without = await api.patch(path, json={"startsOn": None}, headers=AUTHOR)
    assert without.json()["data"]["firstLessonOn"] is None
    assert (await app.plan(plan_id)).input_hash == plan.input_hash


async def test_a_wrong_schedule_changes_nothing(
    api: httpx.AsyncClient, app: PlanApplication
) -> None:
    plan_id = await generated(app)
    path = f"/api/v3/workflow/{plan_id}/schedule"
    for wrong in (
        {"startTime": "25:00"},
        {"timeZone": "Mars/Olympus"},
        {"breaks": [{"from": "2027-03-05", "until": "2027-03-04"}]},
        {"weekdays": ["MO"]},
        {"startsOn": "soon"},
    ):
        answer = await api.patch(path, json=wrong, headers=AUTHOR)
        assert answer.status_code in {400, 422}, wrong
    assert (await app.plan(plan_id)).schedule_revision == 0
    assert (await api.patch(path, json={}, headers=FACILITATOR)).status_code == 403
    missing = await api.patch("/api/v3/workflow/none/schedule", json={}, headers=AUTHOR)
    assert missing.status_code == 404


async def test_modules_become_units_and_lessons_chapters_of_a_draft(
    api: httpx.AsyncClient, app: PlanApplication, db: SqliteDatabase
) -> None:
    plan_id = await generated(app)
    path = f"/api/v3/workflow/{plan_id}/course"
    assert (await api.post(path, headers=AUTHOR)).status_code == 422, "no course is named"
    made = await api.post(path, json={"courseId": "bread"}, headers=AUTHOR)
    assert made.status_code == 201
    assert made.json()["data"] == {
        "workflowId": plan_id, "courseId": "bread", "version": 1, "changed": True,
        "units": 2, "chapters": 4,
    }  # fmt: skip
    plan = await app.plan(plan_id)
    again = await api.post(path, json={"courseId": "bread"}, headers=AUTHOR)
    assert (again.status_code, again.json()["data"]["changed"]) == (200, False)
    course = await stored_course(db, "bread")
    assert not course.auto_enrol
    assert [unit.title for unit in course.units] == [m.title for m in plan.curriculum.modules]
    assert list(course.chapters) == [lesson.slot.id for lesson in plan.lessons]


async def test_a_draft_follows_the_plan_and_keeps_what_its_author_set(
    api: httpx.AsyncClient, app: PlanApplication, db: SqliteDatabase, catalogue: Catalogue
) -> None:
    plan_id = await generated(app, courseId="bread")
    path = f"/api/v3/workflow/{plan_id}/course"
    assert (await api.post(path, headers=AUTHOR)).status_code == 201
    body = catalogue_api.dump_course(await stored_course(db, "bread"))
    body["validity"] = "P1Y"
    body["units"][0]["chapters"][0] |= {"weight": 3.0, "quiz": {"passThreshold": 0.8}}
    async with db.write() as tx:
        await catalogue.publish(tx, "bread", body)
    lesson_id = (await app.plan(plan_id)).lessons[0].slot.id
    await api.patch(
        f"/api/v3/workflow/{plan_id}/step10/lessons/{lesson_id}",
        json={"title": "Knead"},
        headers=AUTHOR,
    )
    answer = await api.post(path, headers=AUTHOR)
    assert answer.json()["data"]["version"] == 3
    course = await stored_course(db, "bread")
    chapter = course.chapters[lesson_id]
    assert chapter.title == "1.1 Knead"
    assert (chapter.weight, chapter.pass_threshold) == (30_000, 8_000)
    assert course.validity is not None


async def test_a_course_that_others_depend_on_is_not_replaced(
    api: httpx.AsyncClient, app: PlanApplication, db: SqliteDatabase, catalogue: Catalogue
) -> None:
    plan_id = await generated(app)
    path = f"/api/v3/workflow/{plan_id}/course"
    for id in ("open", "taken", "other"):
        await api.post(path, json={"courseId": id}, headers=AUTHOR)
    async with db.write() as tx:
        body = catalogue_api.dump_course(await stored_course(db, "open"))
        await catalogue.publish(tx, "open", {**body, "autoEnrol": True})
        await catalogue.enrol(tx, "taken", "ada")
        chapter = {"id": "own", "title": "A chapter of one's own"}
        unit = {"id": "own", "title": "Own", "chapters": [chapter]}
        await catalogue.publish(tx, "other", {**body, "units": [*body["units"], unit]})
    for id, reason in (("open", "autoEnrol"), ("taken", "learners"), ("other", "no lessons")):
        refused = await api.post(path, json={"courseId": id}, headers=AUTHOR)
        assert refused.status_code == 409
        assert reason in refused.text
    assert (await api.post(path, headers=FACILITATOR)).status_code == 403


async def test_a_lesson_is_read_with_its_pages_as_they_print(
    api: httpx.AsyncClient, app: PlanApplication
) -> None:
    plan_id = await generated(app)
    plan = await app.plan(plan_id)
    first, second, *_ = [each.slot.id for each in plan.lessons]
    path = f"/api/v3/workflow/{plan_id}/step10/lessons"
    page = (await api.get(f"{path}/{second}", headers=as_("facilitator"))).json()["data"]
    assert (page["lesson"]["id"], page["previousId"]) == (second, first)
    printed = print_plan(plan).modules[0].lessons[1]
    assert page["printed"]["title"] == printed.title
    blocks = page["printed"]["blocks"]
    assert len(blocks) == len(printed.blocks)
    tables = [each for each in printed.blocks if isinstance(each, Grid)]
    assert [(each["columns"], each["rows"]) for each in blocks if each["kind"] == "table"] == [
        (list(each.columns), [list(row) for row in each.rows]) for each in tables
    ]
    lines = blocks[-1]
    assert (lines["kind"], lines["lines"]) == ("lines", NOTE_LINES)
    assert (await api.get(f"{path}/none", headers=as_("author"))).status_code == 404
    assert (await api.get(f"{path}/{first}", headers=as_("learner:ada"))).status_code == 403
