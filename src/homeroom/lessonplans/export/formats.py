"""Export formats of lesson plans, and the CSV and JSON renderers."""

from __future__ import annotations

import csv
import io
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from homeroom.csv_escape import escape_formula
from homeroom.errors import Conflict, HomeroomError, Invalid
from homeroom.lessonplans.curriculum import one_line
from homeroom.lessonplans.export import markdown
from homeroom.lessonplans.export.print_style import PrintStyle
from homeroom.lessonplans.plan import (
    LessonMeeting,
    LessonPlan,
    PlannedLesson,
    plan_document,
    schedule_meetings,
)
from homeroom.lessonplans.wording import load_wording, wording_language

log = structlog.get_logger(__name__)
ExportFormat = Literal["json", "md", "docx", "pdf", "csv", "ics", "imscc", "imscc-1.3", "checklist"]
EXIT_INVALID = 3
"""Exit code of the render process for a plan that it cannot render, with JSON on its output."""
RENDER_TIMEOUT_SECONDS = 120.0
"""Timeout of the render process; the largest plans take some seconds."""
_UNSAFE_IN_FILE_NAME = re.compile(r"[\W_]+")
"""Everything but digits and letters of any alphabet."""
_FILE_ENDINGS: Mapping[ExportFormat, str] = {"checklist": "checklist.md", "imscc-1.3": "imscc"}
"""Endings of files that are not the name of their format."""
CSV_COLUMNS = (
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
    "purpose",
    "retrieves",
    "open places",
)


@dataclass(frozen=True, slots=True)
class ExportFormatInfo:
    """A format: its media type, its purpose, and its renderer.

    A format without ``render`` needs large libraries; ``render_process.py`` renders it in a child
    process.
    """

    media_type: str
    purpose: str
    render: Callable[[LessonPlan], bytes] | None = None


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """An exported plan."""

    name: str
    media_type: str
    content: bytes


def render_json(plan: LessonPlan) -> bytes:
    """Return a plan as JSON."""
    text = json.dumps(plan_document(plan), ensure_ascii=False, indent=2)
    return text.encode() + b"\n"


def render_csv(plan: LessonPlan) -> bytes:
    """Return a plan as CSV, one line per lesson.

    The text is UTF-8 with a byte order mark, which Excel needs.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    meetings: Sequence[LessonMeeting | None] = schedule_meetings(plan)
    for lesson, meeting in zip(plan.lessons, meetings or [None] * len(plan.lessons), strict=True):
        cells = _csv_cells(plan, lesson, meeting)
        writer.writerow([escape_formula(one_line(cell)) for cell in cells])
    return text.getvalue().encode("utf-8-sig")


EXPORT_FORMATS: Mapping[ExportFormat, ExportFormatInfo] = {
    "json": ExportFormatInfo("application/json", "everything, for programs", render_json),
    "md": ExportFormatInfo(
        "text/markdown; charset=utf-8", "to read and to edit", markdown.render_markdown
    ),
    "docx": ExportFormatInfo(
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "for word processors",
    ),
    "pdf": ExportFormatInfo("application/pdf", "to print"),
    "csv": ExportFormatInfo(
        "text/csv; charset=utf-8", "a scheme of work, one line per lesson", render_csv
    ),
    "ics": ExportFormatInfo("text/calendar; charset=utf-8", "for calendars"),
    "imscc": ExportFormatInfo(
        "application/vnd.ims.imsccv1p1+zip",
        "a Common Cartridge 1.1 for Moodle, Canvas and others",
    ),
    "imscc-1.3": ExportFormatInfo(
        "application/vnd.ims.imsccv1p3+zip",
        "the same as a Common Cartridge 1.3, which Moodle does not read",
    ),
    "checklist": ExportFormatInfo(
        "text/markdown; charset=utf-8", "the open places, to tick off", markdown.render_checklist
    ),
}


def export_file(
    plan: LessonPlan, form: ExportFormat, style: PrintStyle | None = None
) -> ExportedFile:
    """Return a plan as a file in a format; blocks the calling thread.

    ``style`` is the school's look of printed formats. Raises ``Conflict`` for a calendar of a plan
    without a first day, ``Invalid`` where no font has its characters, and ``HomeroomError`` if the
    file cannot be rendered.
    """
    if form == "ics" and plan.curriculum.preferences.starts_on is None:
        raise Conflict(
            "The plan has no first day, so its lessons have no dates for a calendar.",
            hint=f"Set it with: homeroom plans schedule {plan.id} --starts-on 2027-01-11",
        )
    info = EXPORT_FORMATS[form]
    stem = _UNSAFE_IN_FILE_NAME.sub("-", plan.curriculum.title.lower()).strip("-")[:60]
    content = _render_in_process(plan, form, style) if info.render is None else info.render(plan)
    ending = _FILE_ENDINGS.get(form, form)
    return ExportedFile(f"{stem or 'lesson-plans'}.{ending}", info.media_type, content)


def _csv_cells(plan: LessonPlan, lesson: PlannedLesson, meeting: LessonMeeting | None) -> list[str]:
    slot, body = lesson.slot, lesson.body
    return [
        f"L{slot.number}",  # a spreadsheet reads 3.10 as the number 3.1, and 3-10 as a day
        str(slot.week),
        "" if meeting is None else meeting.begins.date().isoformat(),
        "" if meeting is None else meeting.begins.strftime("%H:%M"),
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
        "; ".join(gap.message for gap in lesson.gaps) if body else "not generated yet",
        load_wording(wording_language(plan.curriculum)).stages[slot.stage],
        "; ".join(f"{each.text} ({each.lesson})" for each in slot.retrieves),
        str(len(lesson.open_places)),
    ]


def _render_in_process(plan: LessonPlan, form: ExportFormat, style: PrintStyle | None) -> bytes:
    command = [sys.executable, "-m", "homeroom.lessonplans.export.render_process", form]
    try:
        done = subprocess.run(  # noqa: S603 - our own module and a known format
            command,
            input=pickle.dumps((plan, style)),
            capture_output=True,
            timeout=RENDER_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise HomeroomError(
            f"Rendering the {form} file took longer than {RENDER_TIMEOUT_SECONDS:g} s."
        ) from error
    if done.returncode == EXIT_INVALID:
        told = json.loads(done.stdout)
        raise Invalid(told["message"], hint=told["hint"])
    if done.returncode != 0:
        stderr = done.stderr.decode(errors="replace")[-4_000:]
        log.error("export_failed", plan_id=plan.id, format=form, error=stderr)
        raise HomeroomError(
            f"The {form} file could not be rendered.",
            hint="The log has the error: search it for export_failed.",
        )
    return done.stdout
