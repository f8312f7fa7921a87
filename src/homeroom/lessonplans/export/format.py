"""The formats that a plan can be exported to, and what makes each."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import structlog

from homeroom.errors import HomeroomError
from homeroom.lessonplans.export import markdown, sheet
from homeroom.lessonplans.plan import Plan, document

log = structlog.get_logger(__name__)
Format = Literal["json", "md", "docx", "pdf", "csv", "ics", "imscc"]
_UNSAFE_IN_NAME = re.compile(r"[\W_]+")
"""All but letters, of any alphabet, and digits."""


@dataclass(frozen=True, slots=True)
class FormatInfo:
    """A format: its media type, what it is good for, and what makes it here.

    Without ``make`` it needs a library, and ``export.press`` makes it.
    """

    media_type: str
    purpose: str
    make: Callable[[Plan], bytes] | None = None


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
    "json": FormatInfo("application/json", "everything, for programs", _json),
    "md": FormatInfo("text/markdown; charset=utf-8", "to read and to edit", markdown.export),
    "docx": FormatInfo(
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "for word processors",
    ),
    "pdf": FormatInfo("application/pdf", "to print"),
    "csv": FormatInfo("text/csv; charset=utf-8", "a scheme of work, a line a lesson", sheet.export),
    "ics": FormatInfo("text/calendar; charset=utf-8", "for calendars"),
    "imscc": FormatInfo(
        "application/vnd.ims.imsccv1p3+zip",
        "a Common Cartridge 1.3 for Moodle, Canvas and others",
    ),
}
PRESS_SECONDS = 120.0
"""How long a file may take; the largest plans take some seconds."""


def export(plan: Plan, form: Format) -> File:
    """Return a plan as a file of one of the formats; blocks meanwhile.

    Raises ``HomeroomError`` if it cannot be made.
    """
    info = FORMATS[form]
    stem = _UNSAFE_IN_NAME.sub("-", plan.curriculum.title.lower()).strip("-")[:60] or "lesson-plans"
    content = _pressed(plan, form) if info.make is None else info.make(plan)
    return File(f"{stem}.{form}", info.media_type, content)


def _pressed(plan: Plan, form: Format) -> bytes:
    command = [sys.executable, "-m", "homeroom.lessonplans.export.press", form]
    try:
        done = subprocess.run(  # noqa: S603 - our own module, and a format that is known
            command, input=pickle.dumps(plan), capture_output=True, timeout=PRESS_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise HomeroomError(f"The {form} file took longer than {PRESS_SECONDS:g} s.") from error
    if done.returncode != 0:
        log.error("export_failed", format=form, error=done.stderr.decode(errors="replace")[-4_000:])
        raise HomeroomError(f"The {form} file could not be made; the log says why.")
    return done.stdout
