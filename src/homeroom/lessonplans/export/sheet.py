"""A plan as a scheme of work: a CSV table, a line a lesson, that a spreadsheet opens safely."""

from __future__ import annotations

import csv
import io

from homeroom.lessonplans.export.timetable import timetable
from homeroom.lessonplans.plan import Lesson, Plan
from homeroom.lessonplans.text import one_line
from homeroom.spreadsheet import harmless

COLUMNS = (
    "lesson",
    "week",
    "date",
    "starts",
    "minutes",
    "module",
    "title",
    "outcomes",
    "bloom levels",
    "activities",
    "assessment",
    "materials",
    "homework",
    "generator",
    "missing",
)


def export(plan: Plan) -> bytes:
    """Return a plan as CSV in UTF-8, with the mark by which Excel knows it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for lesson, meeting in zip(plan.lessons, timetable(plan), strict=True):
        begins = meeting.begins
        when = [begins.date().isoformat(), begins.strftime("%H:%M")]
        writer.writerow([harmless(one_line(cell)) for cell in _cells(plan, lesson, when)])
    return text.getvalue().encode("utf-8-sig")


def _cells(plan: Plan, lesson: Lesson, when: list[str]) -> list[str]:
    slot, body = lesson.slot, lesson.body
    return [
        slot.number,
        str(slot.week),
        *when,
        str(slot.minutes),
        plan.curriculum.modules[slot.module_index].title,
        lesson.title,
        "; ".join(outcome.text for outcome in slot.outcomes),
        "; ".join(outcome.level.value for outcome in slot.outcomes),
        "" if body is None else "; ".join(f"{a.title} ({a.minutes} min)" for a in body.activities),
        ""
        if body is None
        else "; ".join(f"{each.kind}: {each.method}" for each in body.assessments),
        "" if body is None else "; ".join(body.materials),
        "" if body is None else body.homework or "",
        lesson.generator or "",
        "; ".join(gap.message for gap in lesson.gaps) if body else "not written yet",
    ]
