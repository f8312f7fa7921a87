"""Plans of earlier releases are read, counted, exported and regenerated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.lesson_plan import OLD_LESSON
from tests.support.plan_application import (
    ACTOR,
    PlanApplication,
    build_plan_application,
    curriculum,
)

from homeroom.db.database import Database
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.errors import Invalid
from homeroom.lessonplans.api import RuleBasedGenerator
from homeroom.lessonplans.export.formats import export_file
from homeroom.lessonplans.plan import plan_document

pytestmark = [pytest.mark.anyio, pytest.mark.service]

NEW_SLOT_FIELDS = ("stage", "retrieves", "patterns")
NEW_OUTCOME_FIELDS = (*("domain", "domain_declared", "basis", "evidence", "minutes", "criteria"),)


async def make_old(db: Database, plan_id: str) -> None:
    """Store a plan's rows as the release before wrote them: no new fields, no counts."""
    async with db.write() as tx:
        rows = await tx.fetch(
            "SELECT idx, title, slot FROM lesson_plan_lesson WHERE plan_id = ?", (plan_id,)
        )
        for index, title, text in rows:
            slot: dict[str, Any] = json.loads(text)
            for name in NEW_SLOT_FIELDS:
                del slot[name]
            for outcome in slot["outcomes"]:
                for name in NEW_OUTCOME_FIELDS:
                    del outcome[name]
            body = json.dumps({**OLD_LESSON, "title": title})
            await tx.execute(
                "UPDATE lesson_plan_lesson SET slot = ?, body = ?, open_places = NULL"
                " WHERE plan_id = ? AND idx = ?",
                (json.dumps(slot), body, plan_id, index),
            )


async def run_old_plan(app: PlanApplication) -> str:
    plan_id = await app.create_and_start(curriculum())
    await app.run(plan_id)
    await make_old(app.db, plan_id)
    return plan_id


async def test_an_old_plan_is_read_exported_and_regenerated(sqlite: SqliteDatabase) -> None:
    app = build_plan_application(sqlite, RuleBasedGenerator())
    plan_id = await run_old_plan(app)
    status = await app.status(plan_id)
    assert (status.kind, status.open_places) == ("outline", 4 * 3)
    plan = await app.plan(plan_id)
    assert plan_document(plan)["totals"]["openPlaces"] == 4 * 3
    for form in ("json", "md", "csv", "checklist"):
        assert export_file(plan, form).content  # type: ignore[arg-type]  # a format's name
    await app.plans.regenerate_module(plan_id, "m1", ACTOR, overwrite_edits=False)
    status = await app.run(plan_id)
    plan = await app.plan(plan_id)
    assert status.open_places == len(plan.open_places) > 4 * 3
    assert all(sum(a.minutes for a in each.body.activities) == 60 for each in plan.lessons
               if each.body is not None)  # fmt: skip


async def test_an_unknown_language_is_refused_before_anything_is_stored(
    sqlite: SqliteDatabase,
) -> None:
    app = build_plan_application(sqlite, RuleBasedGenerator())
    with pytest.raises(Invalid) as caught:
        await app.create(curriculum(locale="fr"))
    [error] = caught.value.details["errors"]
    assert (error["pointer"], error["code"]) == ("#/locale", "unknown_language")
    async with sqlite.read() as tx:
        assert await tx.fetch("SELECT id FROM lesson_plan") == []
    body = curriculum(locale="fr")
    body["preferences"]["wording"] = "de"
    plan_id = await app.create_and_start(body)
    assert (await app.run(plan_id)).status == "complete"
    assert "[ergänzen: " in repr((await app.plan(plan_id)).lessons[0].body)


async def test_texts_in_a_language_that_is_not_said_are_refused(sqlite: SqliteDatabase) -> None:
    app = build_plan_application(sqlite, RuleBasedGenerator())
    body = curriculum(modules=1, lessons=2, title="Le pain")
    first, second = body["modules"][0]["outcomes"]
    first["text"] = "Expliquer le rôle de la levure dans la pâte et dans les pains"
    second["text"] = "Comparer la cuisson au four et la cuisson sur la pierre"
    with pytest.raises(Invalid) as caught:
        await app.create(body)
    [error] = caught.value.details["errors"]
    assert (error["pointer"], error["code"]) == ("#/locale", "unknown_language")
    assert "French" in error["detail"]
    for said in ({"locale": "en"}, {"preferences": {"wording": "en"}}):
        await app.create({**body, **said})
