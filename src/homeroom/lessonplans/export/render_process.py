"""Child process that renders a plan as DOCX, PDF, iCalendar or Common Cartridge.

The formats need large libraries, which the server process does not import. ``formats.py`` runs
``python -m homeroom.lessonplans.export.render_process FORMAT`` with a pickled plan on standard
input and reads the file from standard output.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import typst
from docx import Document
from docx.enum.section import WD_ORIENT
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Emu, Pt, RGBColor
from docx.table import Table
from docx.text.run import Run
from icalendar import Calendar, Event

from homeroom import __version__
from homeroom.instant import SECOND, to_datetime
from homeroom.lessonplans.curriculum import one_line, printable
from homeroom.lessonplans.export import common_cartridge
from homeroom.lessonplans.export.blocks import Block, Bullets, Grid, Heading, plan_blocks
from homeroom.lessonplans.plan import LessonPlan, PlannedLesson, schedule_meetings
from homeroom.lessonplans.wording import load_wording, wording_language

_GAP_COLOUR, _NOTE_COLOUR = RGBColor(0xB0, 0x30, 0x00), RGBColor(0x59, 0x59, 0x59)
_DOCX_STYLES = ("Title", "Heading 1", "Heading 2", "Heading 3", "List Bullet", "Table Grid")
_TYPST_TEMPLATE = Path(__file__).with_name("plan.typ")
_TIME_ZONE_MARGIN = timedelta(days=366)


def render_docx(plan: LessonPlan) -> bytes:
    """Return a plan as DOCX in landscape format: the activity tables are wide."""
    writer = _DocxWriter()
    properties = writer.word.core_properties
    properties.title = one_line(plan.curriculum.title)[:255]
    properties.author = "Homeroom"
    properties.comments = ""
    properties.created = to_datetime(plan.created_at).replace(tzinfo=None, microsecond=0)
    for block in plan_blocks(plan):
        writer.add(block)
    buffer = io.BytesIO()
    writer.word.save(buffer)
    return buffer.getvalue()


class _DocxWriter:
    """Writes blocks into a Word document."""

    def __init__(self) -> None:
        """Create an empty document in landscape format."""
        self.word = Document()
        section = self.word.sections[0]
        section.orientation = WD_ORIENT.LANDSCAPE
        section.page_width, section.page_height = section.page_height, section.page_width
        self.word.styles["Normal"].font.size = Pt(10)
        margins = int(section.left_margin or 0) + int(section.right_margin or 0)
        self._text_width = int(section.page_width or 0) - margins
        # The library searches all styles by name for every paragraph, which took half of the time.
        self._style_ids = {name: str(self.word.styles[name].style_id) for name in _DOCX_STYLES}

    def add(self, block: Block) -> None:
        """Add a block."""
        if isinstance(block, Heading):
            self._paragraph(block.text, _DOCX_STYLES[block.level - 1])
        elif isinstance(block, Bullets):
            for item in block.items:
                self._paragraph(item, "List Bullet")
        elif isinstance(block, Grid):
            self._table(block)
        else:
            run = self._paragraph(block.text)
            if block.style == "gap":
                run.bold = True
                run.font.color.rgb = _GAP_COLOUR
            elif block.style == "note":
                run.italic = True
                run.font.color.rgb = _NOTE_COLOUR

    def _paragraph(self, text: str, style: str | None = None) -> Run:
        paragraph = self.word.add_paragraph()
        if style is not None:
            paragraph._p.style = self._style_ids[style]
        return paragraph.add_run(printable(text))

    def _table(self, block: Grid) -> None:
        table = self.word.add_table(rows=1 + len(block.rows), cols=len(block.columns))
        table._tbl.tblStyle_val = self._style_ids["Table Grid"]
        table.autofit = False
        widths = [self._text_width * share // sum(block.widths) for share in block.widths]
        for column, width in zip(table.columns, widths, strict=True):
            column.width = Emu(width)
        all_texts = (block.columns, *block.rows)
        # table.cell() searches the whole table at each access; row.cells searches one row once.
        for number, (row, texts) in enumerate(zip(table.rows, all_texts, strict=True)):
            for cell, text, width in zip(row.cells, texts, widths, strict=True):
                cell.width = Emu(width)
                run = cell.paragraphs[0].add_run(printable(text))
                run.bold = number == 0
                run.font.size = Pt(9)
        _repeat_heading(table)
        self.word.add_paragraph()


def _repeat_heading(table: Table) -> None:
    """Repeat the first row at the top of each page of the table."""
    properties = table.rows[0]._tr.get_or_add_trPr()
    repeat = OxmlElement("w:tblHeader")
    repeat.set(qn("w:val"), "true")
    properties.append(repeat)


def render_pdf(plan: LessonPlan) -> bytes:
    """Return a plan as a tagged PDF."""
    data = {
        "title": plan.curriculum.title,
        "language": plan.curriculum.locale.split("-")[0].lower(),
        "blocks": [_block_data(block) for block in plan_blocks(plan)],
    }
    content = typst.compile(
        _TYPST_TEMPLATE.read_bytes(),
        format="pdf",
        sys_inputs={"plan": json.dumps(data, ensure_ascii=False)},
        timestamp=plan.created_at // SECOND,
    )
    assert isinstance(content, bytes)  # a list only for several pages, None only with a file name
    return content


def _block_data(block: Block) -> dict[str, Any]:
    return {"kind": type(block).__name__.lower(), **asdict(block)}


def render_icalendar(plan: LessonPlan) -> bytes:
    """Return a plan as iCalendar, with the definition of its time zone."""
    calendar = Calendar()
    calendar.add("prodid", f"-//Homeroom//Lesson plans {__version__}//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", one_line(plan.curriculum.title))
    stamp = to_datetime(plan.created_at).replace(microsecond=0)
    meetings = schedule_meetings(plan)
    for lesson, meeting in zip(plan.lessons, meetings, strict=True):
        event = Event()
        # The uid is stable across exports: a second import updates the events of the first.
        event.add("uid", f"{plan.id}.{lesson.slot.id}@homeroom")
        event.add("dtstamp", stamp)
        event.add("dtstart", meeting.begins)
        event.add("dtend", meeting.ends)
        event.add("sequence", lesson.revision)
        event.add("summary", f"{lesson.slot.number} {one_line(lesson.title)}")
        event.add("description", _event_description(plan, lesson))
        calendar.add_component(event)
    # A year on either side includes the last change of clocks before the first lesson.
    first, last = (
        meetings[0].begins.date() - _TIME_ZONE_MARGIN,
        meetings[-1].ends.date() + _TIME_ZONE_MARGIN,
    )
    calendar.add_missing_timezones(first_date=first, last_date=last)
    content: bytes = calendar.to_ical()
    return content


def _event_description(plan: LessonPlan, lesson: PlannedLesson) -> str:
    lines = [plan.curriculum.modules[lesson.slot.module_index].title]
    lines += [f"- {outcome.text}" for outcome in lesson.slot.outcomes]
    if lesson.body is not None:
        lines += [f"{each.minutes} min {each.title}" for each in lesson.body.activities]
    labels = load_wording(wording_language(plan.curriculum)).labels
    lines += [labels["missing"].format(message=gap.message) for gap in lesson.gaps]
    if lesson.open_places:
        lines.append(labels["open_places"].format(count=len(lesson.open_places)))
    return "\n".join(printable(line) for line in lines)


RENDERERS: Mapping[str, Callable[[LessonPlan], bytes]] = {
    "docx": render_docx,
    "pdf": render_pdf,
    "ics": render_icalendar,
    "imscc": common_cartridge.render_common_cartridge,
    "imscc-1.3": lambda plan: common_cartridge.render_common_cartridge(
        plan, common_cartridge.VERSION_1_3
    ),
}


def main() -> None:
    """Render the plan on standard input in the format of the first argument."""
    plan = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the parent process
    sys.stdout.buffer.write(RENDERERS[sys.argv[1]](plan))


if __name__ == "__main__":
    main()
