"""A plan as a document for word processors (Office Open XML)."""

from __future__ import annotations

import io

from docx import Document
from docx.enum.section import WD_ORIENT
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Emu, Pt, RGBColor
from docx.table import Table
from docx.text.run import Run

from homeroom.clock import to_datetime
from homeroom.lessonplans.export.block import Block, Bullets, Grid, Heading, plan_blocks
from homeroom.lessonplans.plan import Plan
from homeroom.lessonplans.text import one_line, printable

_GAP, _NOTE = RGBColor(0xB0, 0x30, 0x00), RGBColor(0x59, 0x59, 0x59)
_STYLES = ("Title", "Heading 1", "Heading 2", "Heading 3", "List Bullet", "Table Grid")


def export(plan: Plan) -> bytes:
    """Return a plan as DOCX, on its side: the tables of activities are wide."""
    writer = _Writer()
    properties = writer.word.core_properties
    properties.title = one_line(plan.curriculum.title)[:255]
    properties.author = "Homeroom"
    properties.comments = ""
    properties.created = to_datetime(plan.created_at).replace(tzinfo=None, microsecond=0)
    for block in plan_blocks(plan):
        writer.add(block)
    made = io.BytesIO()
    writer.word.save(made)
    return made.getvalue()


class _Writer:
    """A document that grows block by block."""

    def __init__(self) -> None:
        """Begin on a page on its side."""
        self.word = Document()
        section = self.word.sections[0]
        section.orientation = WD_ORIENT.LANDSCAPE
        section.page_width, section.page_height = section.page_height, section.page_width
        self.word.styles["Normal"].font.size = Pt(10)
        margins = int(section.left_margin or 0) + int(section.right_margin or 0)
        self._room = int(section.page_width or 0) - margins
        # The library looks a style up by its name in all of them, for every paragraph: that was
        # half of the time.
        self._style_ids = {name: str(self.word.styles[name].style_id) for name in _STYLES}

    def add(self, block: Block) -> None:
        """Add a block."""
        if isinstance(block, Heading):
            self._paragraph(block.text, _STYLES[block.level - 1])
        elif isinstance(block, Bullets):
            for item in block.items:
                self._paragraph(item, "List Bullet")
        elif isinstance(block, Grid):
            self._table(block)
        else:
            run = self._paragraph(block.text)
            if block.style == "gap":
                run.bold = True
                run.font.color.rgb = _GAP
            elif block.style == "note":
                run.italic = True
                run.font.color.rgb = _NOTE

    def _paragraph(self, text: str, style: str | None = None) -> Run:
        paragraph = self.word.add_paragraph()
        if style is not None:
            paragraph._p.style = self._style_ids[style]
        return paragraph.add_run(printable(text))

    def _table(self, block: Grid) -> None:
        table = self.word.add_table(rows=1 + len(block.rows), cols=len(block.columns))
        table._tbl.tblStyle_val = self._style_ids["Table Grid"]
        table.autofit = False
        shares = [self._room * share // sum(block.widths) for share in block.widths]
        for column, width in zip(table.columns, shares, strict=True):
            column.width = Emu(width)
        all_texts = (block.columns, *block.rows)
        # the cells of a table are looked for anew at every access; a row's are found once
        for number, (row, texts) in enumerate(zip(table.rows, all_texts, strict=True)):
            for cell, text, width in zip(row.cells, texts, shares, strict=True):
                cell.width = Emu(width)
                run = cell.paragraphs[0].add_run(printable(text))
                run.bold = number == 0
                run.font.size = Pt(9)
        _repeat_heading(table)
        self.word.add_paragraph()


def _repeat_heading(table: Table) -> None:
    """Let the first row stand at the top of every page that the table reaches."""
    properties = table.rows[0]._tr.get_or_add_trPr()
    repeat = OxmlElement("w:tblHeader")
    repeat.set(qn("w:val"), "true")
    properties.append(repeat)
