"""Export of a plan as a Common Cartridge 1.3.

Moodle, Canvas and other learning platforms import it.
A cartridge is a zip file with ``imsmanifest.xml``: one organization, a folder per module, a page
per lesson (``webcontent`` with the intended use ``lessonplan``), and the author's web addresses as
web links. ``tests/unit/lessonplans/test_cartridge.py`` checks it against the specification.
"""

from __future__ import annotations

import html
import io
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime

from lxml import etree

from homeroom.instant import to_datetime
from homeroom.lessonplans.curriculum import CurriculumModule, one_line, printable
from homeroom.lessonplans.export.blocks import (
    Block,
    Bullets,
    Grid,
    Heading,
    authorship_note,
    lesson_blocks,
    module_blocks,
)
from homeroom.lessonplans.plan import LessonPlan

CONTENT_PACKAGING = "http://www.imsglobal.org/xsd/imsccv1p3/imscp_v1p1"
LOM_MANIFEST = "http://ltsc.ieee.org/xsd/imsccv1p3/LOM/manifest"
WEB_LINK = "http://www.imsglobal.org/xsd/imsccv1p3/imswl_v1p3"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMAS = (
    (CONTENT_PACKAGING, "http://www.imsglobal.org/profile/cc/ccv1p3/ccv1p3_imscp_v1p2_v1p0.xsd"),
    (LOM_MANIFEST, "http://www.imsglobal.org/profile/cc/ccv1p3/LOM/ccv1p3_lommanifest_v1p0.xsd"),
)
_LINK_PATTERN = re.compile(r"https?://[^\s<>\"'()\[\]{}]+")
_FIRST_ZIP_YEAR, _LAST_ZIP_YEAR = 1980, 2107
_STYLE = (
    "body{font-family:sans-serif;line-height:1.4}table{border-collapse:collapse}"
    "td,th{border:1px solid #aaa;padding:4px;vertical-align:top;text-align:left}"
    ".gap{background:#fdecea;padding:6px}.note{color:#595959;font-style:italic}"
)


class _CartridgeBuilder:
    """Builds a manifest together with its files."""

    def __init__(self, plan: LessonPlan) -> None:
        """Create a manifest with its required elements."""
        self.files: list[tuple[str, bytes]] = []
        self.manifest = etree.Element(
            f"{{{CONTENT_PACKAGING}}}manifest",
            {"identifier": f"plan-{plan.id}"},
            nsmap={None: CONTENT_PACKAGING, "lomimscc": LOM_MANIFEST, "xsi": XSI},
        )
        locations = " ".join(part for schema in _SCHEMAS for part in schema)
        self.manifest.set(f"{{{XSI}}}schemaLocation", locations)
        metadata = etree.SubElement(self.manifest, f"{{{CONTENT_PACKAGING}}}metadata")
        etree.SubElement(metadata, f"{{{CONTENT_PACKAGING}}}schema").text = "IMS Common Cartridge"
        etree.SubElement(metadata, f"{{{CONTENT_PACKAGING}}}schemaversion").text = "1.3.0"
        self._add_lom(metadata, plan)
        organizations = etree.SubElement(self.manifest, f"{{{CONTENT_PACKAGING}}}organizations")
        organization = etree.SubElement(
            organizations,
            f"{{{CONTENT_PACKAGING}}}organization",
            {"identifier": "organization", "structure": "rooted-hierarchy"},
        )
        self.root = etree.SubElement(
            organization, f"{{{CONTENT_PACKAGING}}}item", {"identifier": "root"}
        )
        self.resources = etree.SubElement(self.manifest, f"{{{CONTENT_PACKAGING}}}resources")

    def _add_lom(self, metadata: etree._Element, plan: LessonPlan) -> None:
        lom = etree.SubElement(metadata, f"{{{LOM_MANIFEST}}}lom")
        general = etree.SubElement(lom, f"{{{LOM_MANIFEST}}}general")
        for name, text in (
            ("title", one_line(plan.curriculum.title)),
            ("description", authorship_note(plan)),
        ):
            parent = etree.SubElement(general, f"{{{LOM_MANIFEST}}}{name}")
            string = etree.SubElement(parent, f"{{{LOM_MANIFEST}}}string")
            string.set("language", plan.curriculum.locale)
            string.text = text

    def add_folder(self, identifier: str, title: str) -> etree._Element:
        """Add a folder."""
        item = etree.SubElement(
            self.root, f"{{{CONTENT_PACKAGING}}}item", {"identifier": identifier}
        )
        etree.SubElement(item, f"{{{CONTENT_PACKAGING}}}title").text = title
        return item

    def add_item(self, folder: etree._Element, name: str, title: str) -> None:
        """Add an item to a folder that shows a resource."""
        item = etree.SubElement(
            folder,
            f"{{{CONTENT_PACKAGING}}}item",
            {"identifier": f"item-{name}", "identifierref": f"resource-{name}"},
        )
        etree.SubElement(item, f"{{{CONTENT_PACKAGING}}}title").text = title

    def add_page(self, name: str, content: str, use: str) -> None:
        """Add an HTML page as a resource; its ``href`` is its file."""
        href = f"content/{name}.html"
        resource = etree.SubElement(
            self.resources,
            f"{{{CONTENT_PACKAGING}}}resource",
            {
                "identifier": f"resource-{name}",
                "type": "webcontent",
                "href": href,
                "intendeduse": use,
            },
        )
        etree.SubElement(resource, f"{{{CONTENT_PACKAGING}}}file", {"href": href})
        self.files.append((href, content.encode()))

    def add_link(self, name: str, address: str) -> None:
        """Add a web link as a resource; it has a file but no ``href``."""
        href = f"links/{name}.xml"
        resource = etree.SubElement(
            self.resources,
            f"{{{CONTENT_PACKAGING}}}resource",
            {"identifier": f"resource-{name}", "type": "imswl_xmlv1p3"},
        )
        etree.SubElement(resource, f"{{{CONTENT_PACKAGING}}}file", {"href": href})
        link = etree.Element(f"{{{WEB_LINK}}}webLink", nsmap={None: WEB_LINK})
        etree.SubElement(link, f"{{{WEB_LINK}}}title").text = address
        etree.SubElement(link, f"{{{WEB_LINK}}}url", {"href": address, "target": "_blank"})
        self.files.append((href, _serialize_xml(link)))


def render_common_cartridge(plan: LessonPlan) -> bytes:
    """Return a plan as a Common Cartridge."""
    cartridge = _CartridgeBuilder(plan)
    language = html.escape(plan.curriculum.locale, quote=True)
    for index, module in enumerate(plan.curriculum.modules):
        number = str(index + 1)
        folder = cartridge.add_folder(f"module-{number}", f"{number}. {one_line(module.title)}")
        name = f"module-{number}-overview"
        overview = _render_page(language, list(module_blocks(plan, index, module)))
        cartridge.add_item(folder, name, "Overview")
        cartridge.add_page(name, overview, "syllabus")
        for lesson in plan.lessons_of(index):
            name = f"lesson-{lesson.slot.number.replace('.', '-')}"
            cartridge.add_item(folder, name, f"{lesson.slot.number} {one_line(lesson.title)}")
            page = _render_page(language, list(lesson_blocks(plan, lesson)))
            cartridge.add_page(name, page, "lessonplan")
        for position, address in enumerate(_author_links(module), start=1):
            name = f"link-{number}-{position}"
            cartridge.add_item(folder, name, address[:250])
            cartridge.add_link(name, address)
    files = [("imsmanifest.xml", _serialize_xml(cartridge.manifest)), *cartridge.files]
    return _build_zip(files, to_datetime(plan.created_at))


def _author_links(module: CurriculumModule) -> list[str]:
    """Return the web addresses in a module's texts, each once."""
    texts = [module.title, module.notes or "", *(each.text for each in module.outcomes)]
    links = [link.rstrip(".,;:!?") for text in texts for link in _LINK_PATTERN.findall(text)]
    return list(dict.fromkeys(links))


def _render_page(language: str, blocks: list[Block]) -> str:
    heading = next(block.text for block in blocks if isinstance(block, Heading))
    body = "\n".join(part for block in blocks for part in _render_block(block))
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{_escape_html(heading)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _render_block(block: Block) -> Iterator[str]:
    if isinstance(block, Heading):
        level = max(1, block.level - 2)
        yield f"<h{level}>{_escape_html(block.text)}</h{level}>"
    elif isinstance(block, Bullets):
        yield "<ul>" + "".join(f"<li>{_escape_html(item)}</li>" for item in block.items) + "</ul>"
    elif isinstance(block, Grid):
        yield "<table>"
        yield "<tr>" + "".join(f"<th>{_escape_html(name)}</th>" for name in block.columns) + "</tr>"
        for row in block.rows:
            yield "<tr>" + "".join(f"<td>{_escape_html(cell)}</td>" for cell in row) + "</tr>"
        yield "</table>"
    else:
        name = "" if block.style == "plain" else f' class="{block.style}"'
        yield f"<p{name}>{_escape_html(block.text)}</p>"


def _escape_html(text: str) -> str:
    return html.escape(printable(text), quote=True).replace("\n", "<br>")


def _serialize_xml(root: etree._Element) -> bytes:
    text: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True)
    return text


def _build_zip(files: list[tuple[str, bytes]], moment: datetime) -> bytes:
    """Pack files into a zip file; the same plan yields the same bytes."""
    year = min(max(moment.year, _FIRST_ZIP_YEAR), _LAST_ZIP_YEAR)
    stamp = moment.astimezone(UTC).replace(year=year)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            info = zipfile.ZipInfo(name, stamp.timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return buffer.getvalue()
