"""Change the schedule of a plan: first day, time, time zone and breaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from homeroom.access import api as access
from homeroom.db.database import Database
from homeroom.errors import Invalid, NotFound
from homeroom.lessonplans import plan_queries, store
from homeroom.lessonplans.curriculum import dump_curriculum
from homeroom.lessonplans.curriculum_parser import parse_curriculum
from homeroom.lessonplans.plan import LessonPlan
from homeroom.lessonplans.store import TOPIC

SCHEDULE_FIELDS = ("startsOn", "startTime", "timeZone", "breaks")
"""The preferences that may change after a plan was created: no lesson depends on them."""


async def reschedule(
    db: Database, plan_id: str, changes: Mapping[str, Any], actor: str
) -> LessonPlan:
    """Replace some of ``SCHEDULE_FIELDS``; the lessons and their ids stay.

    Raises ``NotFound``, and ``Invalid`` with every fault.
    """
    unknown = set(changes) - set(SCHEDULE_FIELDS)
    if unknown:
        raise Invalid(f"{sorted(unknown)[0]} is not a part of the schedule of a plan.")
    async with db.write() as tx:
        if not await store.lock_plan(tx, plan_id):
            raise NotFound(f"There is no lesson plan {plan_id!r}.")
        row = await plan_queries.load_plan_row(tx, plan_id)
        document = msgspec.json.decode(row.curriculum)
        before = dump_curriculum(parse_curriculum(document))
        preferences = {**document["preferences"], **changes}
        after = dump_curriculum(parse_curriculum({**document, "preferences": preferences}))
        if after != before:
            text = msgspec.json.encode(after).decode()
            await tx.execute(
                "UPDATE lesson_plan SET curriculum = ?, schedule_revision = schedule_revision + 1,"
                " scheduled_at = ? WHERE id = ?",
                (text, tx.now, plan_id),
            )
            await access.record_audit(
                tx, actor, "plan.scheduled", plan_id, {"fields": sorted(changes)}
            )
            tx.notify(TOPIC, plan_id)
        return await plan_queries.load_plan(tx, plan_id)
