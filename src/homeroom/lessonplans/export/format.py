"""The formats that a plan can be exported to, and what makes each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from homeroom.lessonplans.export import calendar, cartridge, markdown, pdf, sheet, word
from homeroom.lessonplans.plan import Plan, document

Format = Literal["json", "md", "docx", "pdf", "csv", "ics", "imscc"]
_UNSAFE_IN_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class FormatInfo:
    """A format: its media type, what makes it, and what it is good for."""

    media_type: str
    make: Callable[[Plan], bytes]
    purpose: str


@dataclass(frozen=True, slots=True)
class File:
    """An exported plan."""

    name: str
    media_type: str
    content: bytes


def _json(plan: Plan) -> bytes:
    text = json.dumps(document(plan), ensure_ascii=False, indent=2)
    return text.encode() + b"\n"


FORMATS: Mapping[Format, FormatInfo] = {
    "json": FormatInfo("application/json", _json, "everything, for programs"),
    "md": FormatInfo("text/markdown; charset=utf-8", markdown.export, "to read and to edit"),
    "docx": FormatInfo(
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        word.export,
        "for word processors",
    ),
    "pdf": FormatInfo("application/pdf", pdf.export, "to print"),
    "csv": FormatInfo("text/csv; charset=utf-8", sheet.export, "a scheme of work, a line a lesson"),
    "ics": FormatInfo("text/calendar; charset=utf-8", calendar.export, "for calendars"),
    "imscc": FormatInfo(
        "application/vnd.ims.imsccv1p3+zip",
        cartridge.export,
        "a Common Cartridge 1.3 for Moodle, Canvas and others",
    ),
}


def export(plan: Plan, form: Format) -> File:
    """Return a plan as a file of one of the formats."""
    info = FORMATS[form]
    stem = _UNSAFE_IN_NAME.sub("-", plan.curriculum.title.lower()).strip("-")[:60] or "lesson-plans"
    return File(f"{stem}.{form}", info.media_type, info.make(plan))
