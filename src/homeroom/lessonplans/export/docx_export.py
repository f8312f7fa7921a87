"""Export of a plan as DOCX, laid out for printing."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typst
from docx import Document
from docx.enum.section import WD_ORIENT, WD_SECTION
from docx.enum.style import WD_STYLE_TYPE
from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_TAB_ALIGNMENT, WD_TAB_LEADER
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.section import Section
from docx.shared import Cm, Emu, Length, Pt, RGBColor
from docx.styles.style import ParagraphStyle
from docx.table import Table, _Row
from docx.text.paragraph import Paragraph as DocxParagraph
from docx.text.run import Run

from homeroom.instant import to_datetime
from homeroom.lessonplans.curriculum import printable
from homeroom.lessonplans.export.blocks import Block, Bullets, Grid, Heading, WritingSpace
from homeroom.lessonplans.export.print_document import (
    PrintedPlan,
    SchemeOfWork,
    is_splittable,
    print_plan,
)
from homeroom.lessonplans.export.print_style import PaperSize, PrintStyle
from homeroom.lessonplans.export.zip_file import build_zip
from homeroom.lessonplans.plan import LessonPlan

_GAP_COLOUR, _NOTE_COLOUR = RGBColor(0xB0, 0x30, 0x00), RGBColor(0x59, 0x59, 0x59)
_LINE_COLOUR = "A0A0A0"
_FONT = "Arial"
"""Word processors on all systems have it, or a font of the same widths."""
_STYLES = (
    "Title",
    "Heading 1",
    "Heading 2",
    "Heading 3",
    "List Bullet",
    "Table Grid",
    "TOC 1",
    "TOC 2",
)
_PAPER: dict[PaperSize, tuple[Length, Length]] = {
    "a4": (Cm(21.0), Cm(29.7)),
    "letter": (Cm(21.59), Cm(27.94)),
}
_MARGIN = Cm(1.8)
_LOGO_HEIGHT = Cm(2)
_LOGO_PIXELS_PER_INCH = 200.0


def render_docx(plan: LessonPlan, style: PrintStyle) -> bytes:
    """Return a plan as DOCX: title page, contents, scheme of work, a page per lesson."""
    printed = print_plan(plan)
    writer = _DocxWriter(printed, style)
    properties = writer.word.core_properties
    properties.title = printed.title[:255]
    properties.author = properties.last_modified_by = (style.school or "Homeroom")[:255]
    properties.comments = ""
    properties.language = printed.locale
    created = to_datetime(plan.created_at).replace(tzinfo=None, microsecond=0)
    properties.created = properties.modified = created
    writer.write()
    buffer = io.BytesIO()
    writer.word.save(buffer)
    return _with_fixed_times(buffer.getvalue(), to_datetime(plan.created_at))


class _DocxWriter:
    """Writes a printed plan into a Word document."""

    def __init__(self, printed: PrintedPlan, style: PrintStyle) -> None:
        """Create an empty document with the styles of a plan."""
        self.word = Document()
        self._printed, self._style = printed, style
        self._colour = RGBColor.from_string(style.colour.removeprefix("#").upper())
        self._set_styles()
        # The library searches all styles by name for every paragraph, which took half of the time.
        self._style_ids = {name: str(self.word.styles[name].style_id) for name in _STYLES}
        self._bookmarks = 0
        self._text_width = 0
        # Word asks once whether it may compute the fields: only it knows the pages of headings.
        update = OxmlElement("w:updateFields")
        update.set(qn("w:val"), "true")
        settings = self.word.settings.element
        settings.find(qn("w:compat")).addprevious(update)  # the schema has an order

    def write(self) -> None:
        """Write all pages."""
        printed = self._printed
        section = self.word.sections[0]
        self._lay_out(section, printed.contents_title)
        self._number_pages(section.footer.paragraphs[0])
        section.different_first_page_header_footer = True
        self._write_title_page()
        self._write_contents()
        self._lay_out(self.word.add_section(WD_SECTION.NEW_PAGE), printed.scheme.title, wide=True)
        self._write_scheme(printed.scheme)
        for module in printed.modules:
            self._lay_out(self.word.add_section(WD_SECTION.NEW_PAGE), module.title)
            self._heading(module.title, 1)
            for block in module.blocks:
                self._add(block)
            for lesson in module.lessons:
                self._heading(lesson.title, 2)
                for each in lesson.blocks:
                    self._add(each)

    def _set_styles(self) -> None:
        styles = self.word.styles
        normal = styles["Normal"]
        assert isinstance(normal, ParagraphStyle)
        normal.font.size = Pt(10)
        normal.paragraph_format.space_after = Pt(4)
        normal.paragraph_format.widow_control = True
        _set_fonts(normal)
        self._set_language(normal)
        for name, size in (("Title", 24), ("Heading 1", 16), ("Heading 2", 13), ("Heading 3", 10)):
            heading = styles[name]
            assert isinstance(heading, ParagraphStyle)
            heading.font.size = Pt(size)
            heading.font.color.rgb = self._colour
            heading.paragraph_format.keep_with_next = True
            heading.paragraph_format.page_break_before = name == "Heading 2"
            _set_fonts(heading)
        for level in (1, 2):
            entry = styles.add_style(f"TOC {level}", WD_STYLE_TYPE.PARAGRAPH)
            assert isinstance(entry, ParagraphStyle)
            entry.base_style = normal
            entry.font.bold = level == 1
            entry.paragraph_format.left_indent = Cm(0.6 * (level - 1))
            entry.paragraph_format.space_before = Pt(6 if level == 1 else 0)
            entry.paragraph_format.space_after = Pt(1)
            width, _ = _PAPER[self._printed.paper]
            entry.paragraph_format.tab_stops.add_tab_stop(
                Emu(width - 2 * _MARGIN), WD_TAB_ALIGNMENT.RIGHT, WD_TAB_LEADER.DOTS
            )

    def _set_language(self, normal: ParagraphStyle) -> None:
        language = OxmlElement("w:lang")
        for name in ("val", "eastAsia", "bidi"):
            language.set(qn(f"w:{name}"), self._printed.locale)
        normal.element.get_or_add_rPr().append(language)
        if self._printed.right_to_left:
            normal.element.get_or_add_pPr().insert_element_before(
                OxmlElement("w:bidi"), "w:spacing", "w:ind", "w:jc"
            )

    def _lay_out(self, section: Section, about: str, *, wide: bool = False) -> None:
        """Set paper, running head and page numbers of a section."""
        width, height = _PAPER[self._printed.paper]
        section.different_first_page_header_footer = False  # a new section copies the last one
        section.orientation = WD_ORIENT.LANDSCAPE if wide else WD_ORIENT.PORTRAIT
        section.page_width, section.page_height = (height, width) if wide else (width, height)
        section.left_margin = section.right_margin = _MARGIN
        section.top_margin, section.bottom_margin = Cm(2.2), Cm(1.8)
        section.header_distance = section.footer_distance = Cm(1)
        self._text_width = int(section.page_width) - 2 * _MARGIN
        section.header.is_linked_to_previous = False
        head = section.header.paragraphs[0]
        head.style = self.word.styles["Normal"]  # that of headers has other tab stops
        parts = [self._style.school, self._printed.title]
        _small(head, " · ".join(part for part in parts if part))
        _small(head, f"\t{about}")
        head.paragraph_format.tab_stops.add_tab_stop(Emu(self._text_width), WD_TAB_ALIGNMENT.RIGHT)
        _draw_line_below(head)

    def _number_pages(self, foot: DocxParagraph) -> None:
        foot.alignment = WD_ALIGN_PARAGRAPH.CENTER
        before, _, rest = self._printed.page_label.partition("{page}")
        between, _, after = rest.partition("{pages}")
        fields: tuple[tuple[str, str | None], ...]
        fields = ((before, "PAGE"), (between, "NUMPAGES"), (after, None))
        for text, field in fields:
            if text:
                _small(foot, text)
            if field is not None:
                _add_field(foot, foot._p, field, "1", Pt(8))

    def _write_title_page(self) -> None:
        style, printed = self._style, self._printed
        if style.logo is not None:
            logo = self.word.add_paragraph().add_run()
            picture = logo.add_picture(_raster_picture(style.logo), height=_LOGO_HEIGHT)
            picture._inline.docPr.set("descr", style.school or "Logo")
        if style.school is not None:
            self._paragraph(style.school).runs[0].font.size = Pt(12)
        title = self._paragraph(printed.title, "Title")
        title.paragraph_format.space_before = Cm(7)
        for block in printed.front:
            self._add(block)

    def _write_contents(self) -> None:
        """Write an entry for each heading, with a field that holds its page.

        The bookmarks are those that ``_heading`` sets, in the same order.
        """
        printed = self._printed
        title = self._paragraph(printed.contents_title)
        title.paragraph_format.page_break_before = True
        font = title.runs[0].font
        font.bold, font.size, font.color.rgb = True, Pt(16), self._colour
        entries = [(1, printed.scheme.title)]
        for module in printed.modules:
            entries.append((1, module.title))
            entries += [(2, lesson.title) for lesson in module.lessons]
        for number, (level, text) in enumerate(entries, start=1):
            paragraph = self.word.add_paragraph()
            paragraph._p.style = self._style_ids[f"TOC {level}"]
            link = OxmlElement("w:hyperlink")
            link.set(qn("w:anchor"), _bookmark_name(number))
            paragraph._p.append(link)
            Run(_append_run(link), paragraph).text = f"{printable(text)}\t"
            _add_field(paragraph, link, f"PAGEREF {_bookmark_name(number)} \\h", "")

    def _write_scheme(self, scheme: SchemeOfWork) -> None:
        self._heading(scheme.title, 1)
        for note in scheme.notes:
            self._paragraph(note)
        count = sum(1 + len(rows) for _, rows in scheme.groups)
        table = self._new_table(1 + count, scheme.widths)
        rows = iter(table.rows)
        self._fill_row(next(rows), scheme.columns, bold=True, keep=True)
        _repeat_heading(table)
        for title, lessons in scheme.groups:
            row = next(rows)
            cells = row.cells
            merged = cells[0].merge(cells[-1])
            _shade(merged._tc, "E8EEF3")
            run = merged.paragraphs[0].add_run(printable(title))
            run.bold, run.font.size = True, Pt(9)
            merged.paragraphs[0].paragraph_format.keep_with_next = True
            _keep_on_one_page(row)
            for texts in lessons:
                self._fill_row(next(rows), texts)

    def _add(self, block: Block | WritingSpace) -> None:
        if isinstance(block, Heading):
            self._paragraph(block.text, "Heading 3")
        elif isinstance(block, Bullets):
            for item in block.items:
                self._paragraph(item, "List Bullet")
        elif isinstance(block, Grid):
            self._write_grid(block)
        elif isinstance(block, WritingSpace):
            self._write_space(block)
        else:
            run = self._paragraph(block.text).runs[0]
            if block.style == "gap":
                run.bold = True
                run.font.color.rgb = _GAP_COLOUR
            elif block.style == "note":
                run.italic = True
                run.font.color.rgb = _NOTE_COLOUR

    def _heading(self, text: str, level: int) -> None:
        run = self._paragraph(text, f"Heading {level}").runs[0]
        self._bookmarks += 1
        begin, end = OxmlElement("w:bookmarkStart"), OxmlElement("w:bookmarkEnd")
        for mark in (begin, end):
            mark.set(qn("w:id"), str(self._bookmarks))
        begin.set(qn("w:name"), _bookmark_name(self._bookmarks))
        run._r.addprevious(begin)
        run._r.addnext(end)

    def _paragraph(self, text: str, style: str | None = None) -> DocxParagraph:
        paragraph = self.word.add_paragraph()
        if style is not None:
            paragraph._p.style = self._style_ids[style]
        paragraph.add_run(printable(text))
        return paragraph

    def _write_grid(self, block: Grid) -> None:
        table = self._new_table(1 + len(block.rows), block.widths)
        # table.cell() searches the whole table at each access; row.cells searches one row once.
        header, *rows = table.rows
        self._fill_row(header, block.columns, bold=True, keep=True)
        for row, texts in zip(rows, block.rows, strict=True):
            self._fill_row(row, texts, splittable=is_splittable(block, texts))
        _repeat_heading(table)
        self.word.add_paragraph().paragraph_format.space_after = Pt(0)

    def _write_space(self, block: WritingSpace) -> None:
        self._paragraph(block.title, "Heading 3")
        for prompt in block.prompts:
            paragraph = self._paragraph(prompt)
            paragraph.runs[0].font.size = Pt(9)
            paragraph.paragraph_format.keep_with_next = True
            self._ruled_line(keep=False)
        for number in range(block.lines):
            self._ruled_line(keep=number < block.lines - 1)

    def _ruled_line(self, *, keep: bool) -> None:
        paragraph = self.word.add_paragraph()
        paragraph.paragraph_format.space_before = Pt(14)
        paragraph.paragraph_format.space_after = Pt(0)
        paragraph.paragraph_format.keep_with_next = keep
        _draw_line_below(paragraph)

    def _new_table(self, rows: int, widths: Sequence[int]) -> Table:
        table: Table = self.word.add_table(rows=rows, cols=len(widths))
        table._tbl.tblStyle_val = self._style_ids["Table Grid"]
        table.autofit = False
        if self._printed.right_to_left:
            table._tbl.tblPr.insert_element_before(
                OxmlElement("w:bidiVisual"), "w:tblW", "w:jc", "w:tblLayout", "w:tblLook"
            )
        shares = [self._text_width * share // sum(widths) for share in widths]
        for column, width in zip(table.columns, shares, strict=True):
            column.width = Emu(width)
        return table

    def _fill_row(
        self,
        row: _Row,
        texts: Sequence[str],
        *,
        bold: bool = False,
        keep: bool = False,
        splittable: bool = False,
    ) -> None:
        for cell, text in zip(row.cells, texts, strict=True):
            paragraph = cell.paragraphs[0]
            paragraph.paragraph_format.space_after = Pt(1)
            paragraph.paragraph_format.keep_with_next = keep or None
            run = paragraph.add_run(printable(text))
            run.bold = bold or None
            run.font.size = Pt(8.5)
        if not splittable:
            _keep_on_one_page(row)


def _set_fonts(style: ParagraphStyle) -> None:
    fonts = style.element.get_or_add_rPr().get_or_add_rFonts()
    for name in list(fonts.attrib):
        del fonts.attrib[name]  # the fonts of the template's theme would win
    for name in ("ascii", "hAnsi", "cs"):
        fonts.set(qn(f"w:{name}"), _FONT)


def _small(paragraph: DocxParagraph, text: str) -> None:
    run = paragraph.add_run(printable(text))
    run.font.size = Pt(8)
    run.font.color.rgb = _NOTE_COLOUR


def _bookmark_name(number: int) -> str:
    return f"_Toc{number:06d}"


def _append_run(parent: Any) -> Any:
    run = OxmlElement("w:r")
    parent.append(run)
    return run


def _add_field(
    paragraph: DocxParagraph, parent: Any, instruction: str, shown: str, size: Length | None = None
) -> None:
    """Add a field that a word processor computes; until then it shows a text."""

    def add_run() -> Run:
        run = Run(_append_run(parent), paragraph)
        run.font.size = size
        return run

    for kind in ("begin", "separate", "end"):
        mark = OxmlElement("w:fldChar")
        mark.set(qn("w:fldCharType"), kind)
        add_run()._r.append(mark)
        if kind == "begin":
            code = OxmlElement("w:instrText")
            code.set(qn("xml:space"), "preserve")
            code.text = f" {instruction} "
            add_run()._r.append(code)
        elif kind == "separate":
            add_run().text = shown


def _draw_line_below(paragraph: DocxParagraph) -> None:
    borders = OxmlElement("w:pBdr")
    # Between equal paragraphs a border is drawn only with this, too.
    for name in ("w:bottom", "w:between"):
        line = OxmlElement(name)
        for key, value in (("val", "single"), ("sz", "4"), ("space", "1"), ("color", _LINE_COLOUR)):
            line.set(qn(f"w:{key}"), value)
        borders.append(line)
    properties = paragraph._p.get_or_add_pPr()
    properties.insert_element_before(
        borders, "w:shd", "w:tabs", "w:suppressAutoHyphens", "w:spacing", "w:ind", "w:jc", "w:rPr"
    )


def _shade(cell: Any, colour: str) -> None:
    shading = OxmlElement("w:shd")
    for key, value in (("val", "clear"), ("color", "auto"), ("fill", colour)):
        shading.set(qn(f"w:{key}"), value)
    cell.get_or_add_tcPr().append(shading)


def _keep_on_one_page(row: _Row) -> None:
    """Forbid a page break within a row."""
    row._tr.get_or_add_trPr().append(OxmlElement("w:cantSplit"))


def _repeat_heading(table: Table) -> None:
    """Repeat the first row at the top of each page of the table."""
    repeat = OxmlElement("w:tblHeader")
    repeat.set(qn("w:val"), "true")
    table.rows[0]._tr.get_or_add_trPr().append(repeat)


def _raster_picture(path: Path) -> io.BytesIO:
    """Return a picture that DOCX can hold; an SVG file is drawn as PNG."""
    if path.suffix.lower() != ".svg":
        return io.BytesIO(path.read_bytes())
    with tempfile.TemporaryDirectory(prefix="homeroom-logo-") as folder:
        root = Path(folder)
        (root / "logo.svg").write_bytes(path.read_bytes())
        source = root / "logo.typ"
        source.write_text(
            "#set page(width: auto, height: auto, margin: 0pt, fill: none)\n"
            '#image("logo.svg", height: 2cm)'
        )
        drawn = typst.compile(source, root=root, format="png", ppi=_LOGO_PIXELS_PER_INCH)
    assert isinstance(drawn, bytes)  # a list only for several pages
    return io.BytesIO(drawn)


def _with_fixed_times(content: bytes, moment: datetime) -> bytes:
    """Return a zip file whose members all have one time."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = [(name, archive.read(name)) for name in archive.namelist()]
    return build_zip(files, moment.astimezone(UTC))
