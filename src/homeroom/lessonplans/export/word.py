"""A plan as a document for word processors (Office Open XML)."""

from __future__ import annotations

import io

from docx import Document
from docx.document import Document as Word
from docx.enum.section import WD_ORIENT
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Emu, Pt, RGBColor
from docx.table import Table

from homeroom.clock import to_datetime
from homeroom.lessonplans.export.block import Block, Bullets, Grid, Heading, plan_blocks
from homeroom.lessonplans.plan import Plan
from homeroom.lessonplans.text import one_line, printable

_GAP, _NOTE = RGBColor(0xB0, 0x30, 0x00), RGBColor(0x59, 0x59, 0x59)


def export(plan: Plan) -> bytes:
    """Return a plan as DOCX, on its side: the tables of activities are wide."""
    word = Document()
    section = word.sections[0]
    section.orientation = WD_ORIENT.LANDSCAPE
    section.page_width, section.page_height = section.page_height, section.page_width
    word.styles["Normal"].font.size = Pt(10)
    properties = word.core_properties
    properties.title = one_line(plan.curriculum.title)[:255]
    properties.author = "Homeroom"
    properties.comments = ""
    properties.created = to_datetime(plan.created_at).replace(tzinfo=None, microsecond=0)
    for block in plan_blocks(plan):
        _add(word, block)
    made = io.BytesIO()
    word.save(made)
    return made.getvalue()


def _add(word: Word, block: Block) -> None:
    if isinstance(block, Heading):
        word.add_heading(printable(block.text), level=block.level - 1)
    elif isinstance(block, Bullets):
        for item in block.items:
            word.add_paragraph(printable(item), style="List Bullet")
    elif isinstance(block, Grid):
        _add_table(word, block)
    else:
        run = word.add_paragraph().add_run(printable(block.text))
        if block.style == "gap":
            run.bold = True
            run.font.color.rgb = _GAP
        elif block.style == "note":
            run.italic = True
            run.font.color.rgb = _NOTE


def _add_table(word: Word, block: Grid) -> None:
    section = word.sections[0]
    room = int(section.page_width or 0) - int(section.left_margin or 0)
    room -= int(section.right_margin or 0)
    table = word.add_table(rows=1 + len(block.rows), cols=len(block.columns), style="Table Grid")
    table.autofit = False
    shares = [room * share // sum(block.widths) for share in block.widths]
    for column, width in zip(table.columns, shares, strict=True):
        column.width = Emu(width)
    # the cells of a table are looked for anew at every access; a row's are found once
    for number, (row, texts) in enumerate(
        zip(table.rows, (block.columns, *block.rows), strict=True)
    ):
        for cell, text, width in zip(row.cells, texts, shares, strict=True):
            cell.width = Emu(width)
            run = cell.paragraphs[0].add_run(printable(text))
            run.bold = number == 0
            run.font.size = Pt(9)
    _repeat_heading(table)
    word.add_paragraph()


def _repeat_heading(table: Table) -> None:
    """Let the first row stand at the top of every page that the table reaches."""
    properties = table.rows[0]._tr.get_or_add_trPr()
    repeat = OxmlElement("w:tblHeader")
    repeat.set(qn("w:val"), "true")
    properties.append(repeat)
