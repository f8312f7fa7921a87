"""Child process that renders a plan as DOCX, PDF, iCalendar or Common Cartridge.

The formats need large libraries, which the server process does not import. ``formats.py`` runs
``python -m homeroom.lessonplans.export.render_process FORMAT`` with a pickled plan and style on
standard input and reads the file from standard output. Where the plan cannot be rendered, the exit
code is ``EXIT_INVALID``, and standard output has the error as JSON.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Mapping

from homeroom.errors import Invalid
from homeroom.lessonplans.export.calendar_export import render_icalendar
from homeroom.lessonplans.export.common_cartridge import (
    VERSION_1_1,
    VERSION_1_3,
    render_common_cartridge,
)
from homeroom.lessonplans.export.docx_export import render_docx
from homeroom.lessonplans.export.formats import EXIT_INVALID
from homeroom.lessonplans.export.pdf_export import render_pdf
from homeroom.lessonplans.export.print_style import PrintStyle
from homeroom.lessonplans.plan import LessonPlan

_RENDERERS: Mapping[str, Callable[[LessonPlan, PrintStyle], bytes]] = {
    "docx": render_docx,
    "pdf": render_pdf,
    "ics": lambda plan, _: render_icalendar(plan),
    "imscc": lambda plan, _: render_common_cartridge(plan, VERSION_1_1),
    "imscc-1.3": lambda plan, _: render_common_cartridge(plan, VERSION_1_3),
}


def render(form: str, plan: LessonPlan, style: PrintStyle | None = None) -> bytes:
    """Return a plan in a format. Raises ``Invalid`` where no font has a character."""
    return _RENDERERS[form](plan, style or PrintStyle())


def main() -> None:
    """Render the plan on standard input in the format of the first argument."""
    plan, style = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the parent process
    try:
        content = render(sys.argv[1], plan, style)
    except Invalid as error:
        print(json.dumps({"message": error.message, "hint": error.hint}))  # noqa: T201 - read by the parent
        sys.exit(EXIT_INVALID)
    sys.stdout.buffer.write(content)


if __name__ == "__main__":
    main()
