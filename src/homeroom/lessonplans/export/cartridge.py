"""A plan as a Common Cartridge 1.3, which Moodle, Canvas and others import.

A cartridge is a zip with ``imsmanifest.xml``: one organization, a folder a module, a page a lesson
(``webcontent`` whose intended use is ``lessonplan``), and the author's own web addresses as web
links. What the specification asks for is checked in ``tests/unit/lessonplans/test_cartridge.py``.
"""

from __future__ import annotations

import html
import io
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime

from lxml import etree

from homeroom.clock import to_datetime
from homeroom.lessonplans.curriculum import Module
from homeroom.lessonplans.export.block import (
    Block,
    Bullets,
    Grid,
    Heading,
    lesson_blocks,
    module_blocks,
    written_by,
)
from homeroom.lessonplans.plan import Plan
from homeroom.lessonplans.text import one_line, printable

CP = "http://www.imsglobal.org/xsd/imsccv1p3/imscp_v1p1"
LOM_MANIFEST = "http://ltsc.ieee.org/xsd/imsccv1p3/LOM/manifest"
WEB_LINK = "http://www.imsglobal.org/xsd/imsccv1p3/imswl_v1p3"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMAS = (
    (CP, "http://www.imsglobal.org/profile/cc/ccv1p3/ccv1p3_imscp_v1p2_v1p0.xsd"),
    (LOM_MANIFEST, "http://www.imsglobal.org/profile/cc/ccv1p3/LOM/ccv1p3_lommanifest_v1p0.xsd"),
)
_ADDRESS = re.compile(r"https?://[^\s<>\"'()\[\]{}]+")
_FIRST_ZIP_YEAR, _LAST_ZIP_YEAR = 1980, 2107
_STYLE = (
    "body{font-family:sans-serif;line-height:1.4}table{border-collapse:collapse}"
    "td,th{border:1px solid #aaa;padding:4px;vertical-align:top;text-align:left}"
    ".gap{background:#fdecea;padding:6px}.note{color:#595959;font-style:italic}"
)


class _Cartridge:
    """A manifest and its files, growing together."""

    def __init__(self, plan: Plan) -> None:
        """Begin the manifest with what it must have."""
        self.files: list[tuple[str, bytes]] = []
        self.manifest = etree.Element(
            f"{{{CP}}}manifest",
            {"identifier": f"plan-{plan.id}"},
            nsmap={None: CP, "lomimscc": LOM_MANIFEST, "xsi": XSI},
        )
        locations = " ".join(part for schema in _SCHEMAS for part in schema)
        self.manifest.set(f"{{{XSI}}}schemaLocation", locations)
        metadata = etree.SubElement(self.manifest, f"{{{CP}}}metadata")
        etree.SubElement(metadata, f"{{{CP}}}schema").text = "IMS Common Cartridge"
        etree.SubElement(metadata, f"{{{CP}}}schemaversion").text = "1.3.0"
        self._add_lom(metadata, plan)
        organizations = etree.SubElement(self.manifest, f"{{{CP}}}organizations")
        organization = etree.SubElement(
            organizations,
            f"{{{CP}}}organization",
            {"identifier": "organization", "structure": "rooted-hierarchy"},
        )
        self.root = etree.SubElement(organization, f"{{{CP}}}item", {"identifier": "root"})
        self.resources = etree.SubElement(self.manifest, f"{{{CP}}}resources")

    def _add_lom(self, metadata: etree._Element, plan: Plan) -> None:
        lom = etree.SubElement(metadata, f"{{{LOM_MANIFEST}}}lom")
        general = etree.SubElement(lom, f"{{{LOM_MANIFEST}}}general")
        for name, text in (
            ("title", one_line(plan.curriculum.title)),
            ("description", written_by(plan)),
        ):
            parent = etree.SubElement(general, f"{{{LOM_MANIFEST}}}{name}")
            string = etree.SubElement(parent, f"{{{LOM_MANIFEST}}}string")
            string.set("language", plan.curriculum.locale)
            string.text = text

    def folder(self, identifier: str, title: str) -> etree._Element:
        """Add a folder."""
        item = etree.SubElement(self.root, f"{{{CP}}}item", {"identifier": identifier})
        etree.SubElement(item, f"{{{CP}}}title").text = title
        return item

    def leaf(self, folder: etree._Element, name: str, title: str) -> None:
        """Let a folder show a resource."""
        item = etree.SubElement(
            folder,
            f"{{{CP}}}item",
            {"identifier": f"item-{name}", "identifierref": f"resource-{name}"},
        )
        etree.SubElement(item, f"{{{CP}}}title").text = title

    def page(self, name: str, content: str, use: str) -> None:
        """Add a page of HTML as a resource; its file is also its address."""
        href = f"content/{name}.html"
        resource = etree.SubElement(
            self.resources,
            f"{{{CP}}}resource",
            {
                "identifier": f"resource-{name}",
                "type": "webcontent",
                "href": href,
                "intendeduse": use,
            },
        )
        etree.SubElement(resource, f"{{{CP}}}file", {"href": href})
        self.files.append((href, content.encode()))

    def link(self, name: str, address: str) -> None:
        """Add a web link as a resource; such a one has a file and no address of its own."""
        href = f"links/{name}.xml"
        resource = etree.SubElement(
            self.resources,
            f"{{{CP}}}resource",
            {"identifier": f"resource-{name}", "type": "imswl_xmlv1p3"},
        )
        etree.SubElement(resource, f"{{{CP}}}file", {"href": href})
        link = etree.Element(f"{{{WEB_LINK}}}webLink", nsmap={None: WEB_LINK})
        etree.SubElement(link, f"{{{WEB_LINK}}}title").text = address
        etree.SubElement(link, f"{{{WEB_LINK}}}url", {"href": address, "target": "_blank"})
        self.files.append((href, _xml(link)))


def export(plan: Plan) -> bytes:
    """Return a plan as a Common Cartridge."""
    cartridge = _Cartridge(plan)
    language = html.escape(plan.curriculum.locale, quote=True)
    for index, module in enumerate(plan.curriculum.modules):
        number = str(index + 1)
        folder = cartridge.folder(f"module-{number}", f"{number}. {one_line(module.title)}")
        name = f"module-{number}-overview"
        overview = _page(language, list(module_blocks(index, module)))
        cartridge.leaf(folder, name, "Overview")
        cartridge.page(name, overview, "syllabus")
        for lesson in plan.lessons_of(index):
            name = f"lesson-{lesson.slot.number.replace('.', '-')}"
            cartridge.leaf(folder, name, f"{lesson.slot.number} {one_line(lesson.title)}")
            page = _page(language, list(lesson_blocks(plan, lesson)))
            cartridge.page(name, page, "lessonplan")
        for position, address in enumerate(_addresses(module), start=1):
            name = f"link-{number}-{position}"
            cartridge.leaf(folder, name, address[:250])
            cartridge.link(name, address)
    files = [("imsmanifest.xml", _xml(cartridge.manifest)), *cartridge.files]
    return _zip(files, to_datetime(plan.created_at))


def _addresses(module: Module) -> list[str]:
    """Return the web addresses that the author gave for a module, each once."""
    texts = [module.title, module.notes or "", *(each.text for each in module.outcomes)]
    found = [hit.rstrip(".,;:!?") for text in texts for hit in _ADDRESS.findall(text)]
    return list(dict.fromkeys(found))


def _page(language: str, blocks: list[Block]) -> str:
    heading = next(block.text for block in blocks if isinstance(block, Heading))
    body = "\n".join(part for block in blocks for part in _render(block))
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{_escaped(heading)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _render(block: Block) -> Iterator[str]:
    if isinstance(block, Heading):
        level = max(1, block.level - 2)
        yield f"<h{level}>{_escaped(block.text)}</h{level}>"
    elif isinstance(block, Bullets):
        yield "<ul>" + "".join(f"<li>{_escaped(item)}</li>" for item in block.items) + "</ul>"
    elif isinstance(block, Grid):
        yield "<table>"
        yield "<tr>" + "".join(f"<th>{_escaped(name)}</th>" for name in block.columns) + "</tr>"
        for row in block.rows:
            yield "<tr>" + "".join(f"<td>{_escaped(cell)}</td>" for cell in row) + "</tr>"
        yield "</table>"
    else:
        name = "" if block.style == "plain" else f' class="{block.style}"'
        yield f"<p{name}>{_escaped(block.text)}</p>"


def _escaped(text: str) -> str:
    return html.escape(printable(text), quote=True).replace("\n", "<br>")


def _xml(root: etree._Element) -> bytes:
    made: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True)
    return made


def _zip(files: list[tuple[str, bytes]], moment: datetime) -> bytes:
    """Pack files; the same plan gives the same bytes."""
    year = min(max(moment.year, _FIRST_ZIP_YEAR), _LAST_ZIP_YEAR)
    stamp = moment.astimezone(UTC).replace(year=year)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files:
            info = zipfile.ZipInfo(name, stamp.timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            packed.writestr(info, content)
    return made.getvalue()
