"""Export of a plan as a Common Cartridge 1.1 or 1.3.

Moodle, Canvas and other learning platforms import it. Moodle reads 1.0 and 1.1 only, and whatever
reads 1.3 reads 1.1 too, so 1.1 is the default.
A cartridge is a zip file with ``imsmanifest.xml``: one organization, a folder per module, a page
per lesson (``webcontent`` with the intended use ``lessonplan``, for the role ``Instructor``), the
lessons' quizzes in QTI 1.2, in 1.3 their assignments, and the author's web addresses as web links.
``tests/unit/lessonplans/test_cartridge.py`` checks it against the specification.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from homeroom.instant import to_datetime
from homeroom.lessonplans.curriculum import CurriculumModule, one_line, printable
from homeroom.lessonplans.export.blocks import (
    Block,
    Bullets,
    Grid,
    Heading,
    Paragraph,
    authorship_note,
    lesson_blocks,
    module_blocks,
    rubric_grid,
)
from homeroom.lessonplans.export.qti import quiz_document
from homeroom.lessonplans.export.quiz import (
    Assignment,
    Quiz,
    lesson_assignments,
    lesson_quizzes,
)
from homeroom.lessonplans.export.zip_file import build_zip
from homeroom.lessonplans.plan import LessonPlan, PlannedLesson
from homeroom.lessonplans.wording import Wording, load_wording, wording_language

XSI = "http://www.w3.org/2001/XMLSchema-instance"
ASSIGNMENT = "http://www.imsglobal.org/xsd/imscc_extensions/assignment"
PACKAGE_EXTENSION = "http://www.imsglobal.org/xsd/imsccv1p3/imscp_extensionv1p2"


@dataclass(frozen=True, slots=True)
class CartridgeVersion:
    """Names of a version of Common Cartridge; ``short`` is its part of addresses."""

    schema_version: str
    short: str

    @property
    def content_packaging(self) -> str:
        """Namespace of the manifest."""
        return f"http://www.imsglobal.org/xsd/imscc{self.short}/imscp_v1p1"

    @property
    def manifest_metadata(self) -> str:
        """Namespace of the metadata of the whole cartridge."""
        return f"http://ltsc.ieee.org/xsd/imscc{self.short}/LOM/manifest"

    @property
    def resource_metadata(self) -> str:
        """Namespace of the metadata of one resource."""
        return f"http://ltsc.ieee.org/xsd/imscc{self.short}/LOM/resource"

    @property
    def web_link(self) -> str:
        """Namespace of web links."""
        return f"http://www.imsglobal.org/xsd/imscc{self.short}/imswl_{self.short}"

    @property
    def assessment_type(self) -> str:
        """Type of resources that are quizzes."""
        return f"imsqti_xmlv1p2/imscc_xml{self.short}/assessment"

    @property
    def has_assignments(self) -> bool:
        """True: the version has a type of resources for assignments."""
        return self.short == "v1p3"

    @property
    def schema_locations(self) -> str:
        """Pairs of namespace and address of its schema."""
        profile = f"http://www.imsglobal.org/profile/cc/cc{self.short}"
        lom = f"{profile}/LOM/cc{self.short}"
        locations = [
            f"{self.content_packaging} {profile}/cc{self.short}_imscp_v1p2_v1p0.xsd",
            f"{self.manifest_metadata} {lom}_lommanifest_v1p0.xsd",
            f"{self.resource_metadata} {lom}_lomresource_v1p0.xsd",
        ]
        if self.has_assignments:
            extension = f"{profile}/cc{self.short}_cpextensionv1p2_v1p0.xsd"
            locations.append(f"{PACKAGE_EXTENSION} {extension}")
        return " ".join(locations)


VERSION_1_1 = CartridgeVersion("1.1.0", "v1p1")
VERSION_1_3 = CartridgeVersion("1.3.0", "v1p3")
_LINK_PATTERN = re.compile(r"https?://[^\s<>\"'()\[\]{}]+")
_STYLE = (
    "body{font-family:sans-serif;line-height:1.4}table{border-collapse:collapse}"
    "td,th{border:1px solid #aaa;padding:4px;vertical-align:top;text-align:left}"
    ".gap{background:#fdecea;padding:6px}.note{color:#595959;font-style:italic}"
)


class _CartridgeBuilder:
    """Builds a manifest together with its files."""

    def __init__(self, plan: LessonPlan, version: CartridgeVersion) -> None:
        """Create a manifest with its required elements."""
        self.version = version
        self.files: list[tuple[str, bytes]] = []
        namespaces: dict[str | None, str] = {
            None: version.content_packaging,
            "lomimscc": version.manifest_metadata,
            "lom": version.resource_metadata,
            "xsi": XSI,
        }
        if version.has_assignments:
            namespaces["cpx"] = PACKAGE_EXTENSION
        self.manifest = etree.Element(
            self._tag("manifest"), {"identifier": f"plan-{plan.id}"}, nsmap=namespaces
        )
        self.manifest.set(f"{{{XSI}}}schemaLocation", version.schema_locations)
        metadata = etree.SubElement(self.manifest, self._tag("metadata"))
        etree.SubElement(metadata, self._tag("schema")).text = "IMS Common Cartridge"
        etree.SubElement(metadata, self._tag("schemaversion")).text = version.schema_version
        self._add_lom(metadata, plan)
        organizations = etree.SubElement(self.manifest, self._tag("organizations"))
        organization = etree.SubElement(
            organizations,
            self._tag("organization"),
            {"identifier": "organization", "structure": "rooted-hierarchy"},
        )
        self.root = etree.SubElement(organization, self._tag("item"), {"identifier": "root"})
        self.resources = etree.SubElement(self.manifest, self._tag("resources"))

    def _tag(self, name: str) -> str:
        return f"{{{self.version.content_packaging}}}{name}"

    def _add_lom(self, metadata: etree._Element, plan: LessonPlan) -> None:
        space = self.version.manifest_metadata
        lom = etree.SubElement(metadata, f"{{{space}}}lom")
        general = etree.SubElement(lom, f"{{{space}}}general")
        for name, text in (
            ("title", one_line(plan.curriculum.title)),
            ("description", authorship_note(plan)),
        ):
            parent = etree.SubElement(general, f"{{{space}}}{name}")
            string = etree.SubElement(parent, f"{{{space}}}string")
            string.set("language", plan.curriculum.locale)
            string.text = text

    def add_folder(self, identifier: str, title: str) -> etree._Element:
        """Add a folder."""
        item = etree.SubElement(self.root, self._tag("item"), {"identifier": identifier})
        etree.SubElement(item, self._tag("title")).text = title
        return item

    def add_item(self, folder: etree._Element, name: str, title: str) -> None:
        """Add an item to a folder that shows a resource."""
        item = etree.SubElement(
            folder,
            self._tag("item"),
            {"identifier": f"item-{name}", "identifierref": f"resource-{name}"},
        )
        etree.SubElement(item, self._tag("title")).text = title

    def add_page(self, name: str, content: str, use: str, role: str | None = None) -> None:
        """Add an HTML page as a resource; its ``href`` is its file.

        Platforms show a page with the role ``Instructor`` to those who teach, not to learners.
        """
        href = f"content/{name}.html"
        resource = etree.SubElement(
            self.resources,
            self._tag("resource"),
            {
                "identifier": f"resource-{name}",
                "type": "webcontent",
                "href": href,
                "intendeduse": use,
            },
        )
        if role is not None:
            self._add_role(resource, role)
        etree.SubElement(resource, self._tag("file"), {"href": href})
        self.files.append((href, content.encode()))

    def _add_role(self, resource: etree._Element, role: str) -> None:
        space = self.version.resource_metadata
        lom = etree.SubElement(etree.SubElement(resource, self._tag("metadata")), f"{{{space}}}lom")
        educational = etree.SubElement(lom, f"{{{space}}}educational")
        user_role = etree.SubElement(educational, f"{{{space}}}intendedEndUserRole")
        source = etree.SubElement(user_role, f"{{{space}}}source")
        source.text = f"IMSGLC_CC_Roles{self.version.short}"
        etree.SubElement(user_role, f"{{{space}}}value").text = role

    def add_link(self, name: str, address: str) -> None:
        """Add a web link as a resource; it has a file but no ``href``."""
        href = f"links/{name}.xml"
        resource = etree.SubElement(
            self.resources,
            self._tag("resource"),
            {"identifier": f"resource-{name}", "type": f"imswl_xml{self.version.short}"},
        )
        etree.SubElement(resource, self._tag("file"), {"href": href})
        space = self.version.web_link
        link = etree.Element(f"{{{space}}}webLink", nsmap={None: space})
        etree.SubElement(link, f"{{{space}}}title").text = address
        etree.SubElement(link, f"{{{space}}}url", {"href": address, "target": "_blank"})
        self.files.append((href, _serialize_xml(link)))

    def add_quiz(self, name: str, quiz: Quiz) -> None:
        """Add a quiz as a resource."""
        href = f"quizzes/{name}.xml"
        resource = etree.SubElement(
            self.resources,
            self._tag("resource"),
            {"identifier": f"resource-{name}", "type": self.version.assessment_type},
        )
        etree.SubElement(resource, self._tag("file"), {"href": href})
        self.files.append((href, _serialize_xml(quiz_document(quiz, f"quiz-{name}"))))

    def add_assignment(self, name: str, page: str, assignment: Assignment, grading: str) -> None:
        """Add an assignment, and a page for platforms that have no assignments.

        ``grading`` is HTML for those who grade.
        """
        self.add_page(name, page, "assignment")
        variant = etree.SubElement(
            self.resources[-1],
            f"{{{PACKAGE_EXTENSION}}}variant",
            {"identifier": f"variant-{name}", "identifierref": f"assignment-{name}"},
        )
        etree.SubElement(variant, f"{{{PACKAGE_EXTENSION}}}metadata")
        href = f"assignments/{name}.xml"
        resource = etree.SubElement(
            self.resources,
            self._tag("resource"),
            {"identifier": f"assignment-{name}", "type": "assignment_xmlv1p0"},
        )
        etree.SubElement(resource, self._tag("file"), {"href": href})
        document = _assignment_document(assignment, f"assignment-{name}", grading)
        self.files.append((href, _serialize_xml(document)))


def _assignment_document(assignment: Assignment, identifier: str, grading: str) -> etree._Element:
    root = etree.Element(
        f"{{{ASSIGNMENT}}}assignment", {"identifier": identifier}, nsmap={None: ASSIGNMENT}
    )

    def add(name: str, text: str, **attributes: str) -> None:
        etree.SubElement(root, f"{{{ASSIGNMENT}}}{name}", attributes).text = text

    add("title", printable(assignment.title))
    add("text", f"<p>{_escape_html(assignment.text)}</p>", texttype="text/html")
    rubric = [] if assignment.rubric is None else assignment.rubric.rubric
    if rubric:
        add("instructor_text", grading, texttype="text/html")
        points = sum(len(row.steps) - 1 for row in rubric)  # the lowest step is worth nothing
        add("gradable", "true", points_possible=str(points))
    else:
        add("gradable", "false")
    formats = etree.SubElement(root, f"{{{ASSIGNMENT}}}submission_formats")
    for kind in ("html", "file"):
        etree.SubElement(formats, f"{{{ASSIGNMENT}}}format", {"type": kind})
    return root


def render_common_cartridge(plan: LessonPlan, version: CartridgeVersion = VERSION_1_1) -> bytes:
    """Return a plan as a Common Cartridge."""
    cartridge = _CartridgeBuilder(plan, version)
    language = html.escape(plan.curriculum.locale, quote=True)
    wording = load_wording(wording_language(plan.curriculum))
    for index, module in enumerate(plan.curriculum.modules):
        number = str(index + 1)
        folder = cartridge.add_folder(f"module-{number}", f"{number}. {one_line(module.title)}")
        name = f"module-{number}-overview"
        overview = _render_page(language, list(module_blocks(plan, index, module)))
        cartridge.add_item(folder, name, wording.labels["overview"])
        cartridge.add_page(name, overview, "syllabus")
        for lesson in plan.lessons_of(index):
            name = f"lesson-{lesson.slot.number.replace('.', '-')}"
            cartridge.add_item(folder, name, f"{lesson.slot.number} {one_line(lesson.title)}")
            page = _render_page(language, list(lesson_blocks(plan, lesson)))
            cartridge.add_page(name, page, "lessonplan", role="Instructor")
            _add_learner_work(cartridge, folder, lesson, name, wording)
        for position, address in enumerate(_author_links(module), start=1):
            name = f"link-{number}-{position}"
            cartridge.add_item(folder, name, address[:250])
            cartridge.add_link(name, address)
    files = [("imsmanifest.xml", _serialize_xml(cartridge.manifest)), *cartridge.files]
    return build_zip(files, to_datetime(plan.created_at))


def _add_learner_work(
    cartridge: _CartridgeBuilder,
    folder: etree._Element,
    lesson: PlannedLesson,
    name: str,
    wording: Wording,
) -> None:
    """Add the quizzes of a lesson and, where the version has them, its assignments."""
    for quiz in lesson_quizzes(lesson, wording):
        cartridge.add_item(folder, f"{name}-{quiz.name}", quiz.title)
        cartridge.add_quiz(f"{name}-{quiz.name}", quiz)
    if lesson.body is None or not cartridge.version.has_assignments:
        return
    for assignment in lesson_assignments(lesson.body, wording):
        title = f"{lesson.slot.number} {assignment.title}"
        heading, text = Heading(3, title), Paragraph(assignment.text)
        rubric: list[Block] = (
            [] if assignment.rubric is None else [rubric_grid(assignment.rubric, wording)]
        )
        page = _render_page(wording.language, [heading, text, *rubric])
        grading = "".join(part for block in rubric for part in _render_block(block))
        cartridge.add_item(folder, f"{name}-{assignment.name}", title)
        cartridge.add_assignment(f"{name}-{assignment.name}", page, assignment, grading)


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
