"""Picture a page of each export of a lesson plan: ``python -m tests.docs.plan_png docs``.

Writes ``lesson-plan-FORMAT.png``. PDF and DOCX are shown as they are printed, the DOCX as
LibreOffice opens it; a cartridge as its contents are read back; text files as text.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import typst
from lxml import etree
from tests.support.lesson_plan import plan_of
from tools.servers.libreoffice import convert_to_pdf

from homeroom.lessonplans.curriculum_file import CURRICULUM_FORMATS, read_curriculum_file
from homeroom.lessonplans.export.fonts import select_fonts
from homeroom.lessonplans.export.formats import EXPORT_FORMATS, ExportFormat
from homeroom.lessonplans.export.print_style import PrintStyle
from homeroom.lessonplans.export.render_process import render
from homeroom.lessonplans.plan import LessonPlan

CURRICULUM = Path("examples/curricula/metal-joining.yaml")
STYLE = PrintStyle(school="Example School")
LINES, LINE_WIDTH = 26, 100
PRINTED_PAGES = (1, 2, 3, 6)
"""Title page, contents, scheme of work and the first page of a lesson, from 1."""
_SHEET = """
#set page(width: auto, height: auto, margin: 8pt, fill: luma(225))
#stack(dir: ltr, spacing: 8pt, ..(PAGES).map(number => box(
  fill: white, height: 400pt, image("file.pdf", page: number, height: 400pt),
)))
"""
_TEXT = """
#set page(width: auto, height: auto, margin: 10pt, fill: white)
#set text(font: "DejaVu Sans Mono", size: 7.5pt)
#raw(block: true, json(bytes(sys.inputs.text)))
"""


def example_plan() -> LessonPlan:
    """Return the plan of the pictures: two modules with a first day."""
    options = {"preferences": {"startsOn": "2027-01-11"}}
    form = CURRICULUM_FORMATS[CURRICULUM.suffix]
    body = read_curriculum_file(CURRICULUM.read_bytes(), form, CURRICULUM.stem, options)
    return plan_of({**body, "modules": body["modules"][:2]})


def picture(form: ExportFormat, folder: Path) -> bytes:
    """Return the picture of an export, as PNG; ``folder`` is for files on the way.

    Raises ``Missing`` without LibreOffice, for DOCX.
    """
    plan, info = example_plan(), EXPORT_FORMATS[form]
    content = render(form, plan, STYLE) if info.render is None else info.render(plan)
    if form == "docx":
        document = folder / "plan.docx"
        document.write_bytes(content)
        content = convert_to_pdf(document, folder).read_bytes()
    if form in {"docx", "pdf"}:
        (folder / "file.pdf").write_bytes(content)
        return _draw(_SHEET.replace("PAGES", ", ".join(map(str, PRINTED_PAGES))), folder)
    show = _SHOWN_AS.get(form, lambda content: content.decode("utf-8-sig"))
    lines = [line[:LINE_WIDTH] for line in show(content).splitlines()][:LINES]
    return _draw(_TEXT, folder, text="\n".join([*lines, "..."]))


def _contents_of_cartridge(content: bytes) -> str:
    """Return titles and kinds of the items of a cartridge, indented."""
    with zipfile.ZipFile(io.BytesIO(content)) as cartridge:
        root = etree.fromstring(cartridge.read("imsmanifest.xml"))
    space = etree.QName(root).namespace
    kinds = {each.get("identifier"): each.get("type") for each in root.iter(f"{{{space}}}resource")}
    lines = []
    for item in root.iter(f"{{{space}}}item"):
        title = item.findtext(f"{{{space}}}title")
        if title is not None:
            depth = sum(1 for _ in item.iterancestors(f"{{{space}}}item")) - 1
            kind = kinds.get(item.get("identifierref"), "")
            lines.append(f"{'    ' * depth + title[:54]:<60}{kind}")
    return "\n".join(lines)


_SHOWN_AS: Mapping[str, Callable[[bytes], str]] = {
    "imscc": _contents_of_cartridge,
    "imscc-1.3": _contents_of_cartridge,
}


def _draw(template: str, folder: Path, text: str = "") -> bytes:
    source = folder / "picture.typ"
    source.write_text(template)
    drawn = typst.compile(
        source,
        root=folder,
        format="png",
        ppi=72.0,
        font_paths=select_fonts([], None).folders,
        sys_inputs={"text": json.dumps(text)},
    )
    assert isinstance(drawn, bytes)  # a list only for several pages
    return drawn


if __name__ == "__main__":
    for each in EXPORT_FORMATS:
        with tempfile.TemporaryDirectory() as made:
            target = Path(sys.argv[1]) / f"lesson-plan-{each.replace('.', '')}.png"
            target.write_bytes(picture(each, Path(made)))
