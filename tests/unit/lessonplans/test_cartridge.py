"""The Common Cartridge keeps the rules of the specification (IMS Common Cartridge 1.1 and 1.3).

The rules are written down here as the specification and its schemas have them: the order and number
of elements, the kinds of resources, unique ids that are XML names, references that lead somewhere,
and the rules on resources that the schemas say in words (Schematron).
"""

from __future__ import annotations

import io
import re
import zipfile
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import pytest
from lxml import etree
from tests.support.lesson_plan import PLAIN, hostile, plan_of

from homeroom.lessonplans.export.common_cartridge import (
    VERSION_1_1,
    VERSION_1_3,
    render_common_cartridge,
)


class Names:
    """What the specification of one version calls things; written out, not taken from the code."""

    def __init__(self, schema_version: str, short: str, uses: set[str]) -> None:
        self.schema_version = schema_version
        self.cp = f"{{http://www.imsglobal.org/xsd/imscc{short}/imscp_v1p1}}"
        self.lom = f"{{http://ltsc.ieee.org/xsd/imscc{short}/LOM/manifest}}"
        self.lom_resource = f"{{http://ltsc.ieee.org/xsd/imscc{short}/LOM/resource}}"
        self.wl = f"{{http://www.imsglobal.org/xsd/imscc{short}/imswl_{short}}}"
        self.web_link_type = f"imswl_xml{short}"
        self.roles = f"IMSGLC_CC_Roles{short}"
        self.types = {
            "webcontent",
            f"imswl_xml{short}",
            f"imsdt_xml{short}",
            f"imsqti_xmlv1p2/imscc_xml{short}/assessment",
            f"imsqti_xmlv1p2/imscc_xml{short}/question-bank",
            f"associatedcontent/imscc_xml{short}/learning-application-resource",
        }
        self.uses = uses


VERSIONS = {
    "1.1": (VERSION_1_1, Names("1.1.0", "v1p1", {"lessonplan", "syllabus", "unspecified"})),
    "1.3": (
        VERSION_1_3,
        Names("1.3.0", "v1p3", {"lessonplan", "syllabus", "assignment", "unspecified"}),
    ),
}
NC_NAME = re.compile(r"[A-Za-z_][\w.-]*")
CHILDREN = {
    # element: what it may hold, in this order, and how often at least and at most
    "manifest": [("metadata", 1, 1), ("organizations", 1, 1), ("resources", 1, 1)],
    "metadata": [("schema", 0, 1), ("schemaversion", 0, 1), ("lom", 1, 1)],
    "organizations": [("organization", 0, 1)],
    "organization": [("title", 0, 1), ("item", 1, 1), ("metadata", 0, 1)],
    "resources": [("resource", 0, None)],
    "resource": [("metadata", 0, 1), ("file", 0, None), ("dependency", 0, None)],
    "file": [("metadata", 0, 1)],
}
ATTRIBUTES = {
    "manifest": {"identifier"},
    "organization": {"identifier", "structure"},
    "item": {"identifier", "identifierref"},
    "resource": {"identifier", "type", "href", "intendeduse"},
    "file": {"href"},
}
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"


class Cartridge:
    """A cartridge that was opened."""

    def __init__(self, body: dict[str, Any], version: str = "1.1") -> None:
        chosen, self.names = VERSIONS[version]
        self.zip = zipfile.ZipFile(io.BytesIO(render_common_cartridge(plan_of(body), chosen)))
        self.root = etree.fromstring(self.zip.read("imsmanifest.xml"))

    def all(self, name: str) -> list[Any]:
        return list(self.root.iter(f"{self.names.cp}{name}"))


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["plain", "hostile"])
def cartridge(request: pytest.FixtureRequest, version: str) -> Cartridge:
    return Cartridge(PLAIN if request.param == "plain" else hostile(), version)


def faults(cartridge: Cartridge) -> list[str]:
    """Return every rule that a cartridge breaks."""
    root, names = cartridge.root, cartridge.names
    return [
        *_structure(root, names),
        *_ids(root, names),
        *_items(root, names),
        *_resources(root, names, set(cartridge.zip.namelist())),
    ]


def _structure(root: Any, names: Names) -> list[str]:
    found = []
    if root.tag != f"{names.cp}manifest":
        found.append(f"the root is {root.tag}")
    for element in root.iter(f"{names.cp}*"):
        name = element.tag.removeprefix(names.cp)
        allowed = ATTRIBUTES.get(name, set())
        odd = {key for key in element.attrib if not key.startswith(XSI)} - allowed
        if odd:
            found.append(f"{name} has {odd}")
        if name not in CHILDREN:
            continue
        tags = [etree.QName(child).localname for child in element]
        rest = list(tags)
        for child, least, most in CHILDREN[name]:
            count = 0
            while rest and rest[0] == child:
                rest.pop(0)
                count += 1
            if count < least or (most is not None and count > most):
                found.append(f"{name} holds {count} of {child}")
        if rest:
            found.append(f"{name} holds {tags}")
    if root.findtext(f"{names.cp}metadata/{names.cp}schema") != "IMS Common Cartridge":
        found.append("schema")
    if root.findtext(f"{names.cp}metadata/{names.cp}schemaversion") != names.schema_version:
        found.append("schemaversion")
    if not root.findtext(
        f"{names.cp}metadata/{names.lom}lom/{names.lom}general/{names.lom}title/{names.lom}string"
    ):
        found.append("the cartridge has no title")
    return found


def _ids(root: Any, names: Names) -> list[str]:
    ids = [element.get("identifier") for element in root.iter() if element.get("identifier")]
    found = [f"{id!r} is no XML name" for id in ids if not NC_NAME.fullmatch(id)]
    found += [f"{id!r} is there twice" for id in set(ids) if ids.count(id) > 1]
    resources = {each.get("identifier") for each in root.iter(f"{names.cp}resource")}
    for element in root.iter(f"{names.cp}item", f"{names.cp}dependency"):
        reference = element.get("identifierref")
        if reference is not None and reference not in resources:
            found.append(f"{reference!r} leads nowhere")
    return found


def _items(root: Any, names: Names) -> list[str]:
    found = []
    for organization in root.iter(f"{names.cp}organization"):
        if organization.get("structure") != "rooted-hierarchy":
            found.append("structure")
        [top] = organization.findall(f"{names.cp}item")
        if top.find(f"{names.cp}title") is not None or top.get("identifierref") is not None:
            found.append("the top item has neither title nor reference")
        for item in top.iter(f"{names.cp}item"):
            if item is top:
                continue
            if not (item.findtext(f"{names.cp}title") or "").strip():
                found.append(f"{item.get('identifier')} has no title")
            if item.get("identifierref") and item.findall(f"{names.cp}item"):
                found.append(f"{item.get('identifier')} is a leaf with leaves")
            if not item.get("identifierref") and not item.findall(f"{names.cp}item"):
                found.append(f"{item.get('identifier')} is an empty folder")
    return found


def _role(resource: Any, names: Names) -> list[str]:
    """Return the faults of a resource's role, which the vocabulary of its version names."""
    lom = names.lom_resource
    found = []
    for role in resource.iter(f"{lom}intendedEndUserRole"):
        pair = (role.findtext(f"{lom}source"), role.findtext(f"{lom}value"))
        if pair not in {(names.roles, value) for value in ("Learner", "Instructor", "Mentor")}:
            found.append(f"{resource.get('identifier')} is for {pair}")
    if resource.find(f"{names.cp}metadata") is not None and not found:
        where = f"{names.cp}metadata/{lom}lom/{lom}educational/{lom}intendedEndUserRole"
        if len(resource.findall(where)) != 1:
            found.append(f"{resource.get('identifier')} has metadata of another kind")
    return found


def _resources(root: Any, names: Names, packed: set[str]) -> list[str]:
    found = []
    listed = {"imsmanifest.xml"}
    for resource in root.iter(f"{names.cp}resource"):
        id, kind, href = (resource.get(key) for key in ("identifier", "type", "href"))
        files = [unquote(each.get("href")) for each in resource.findall(f"{names.cp}file")]
        listed |= set(files)
        if kind not in names.types:
            found.append(f"{id} is a {kind}")
        if resource.get("intendeduse", "unspecified") not in names.uses:
            found.append(f"{id} is meant for {resource.get('intendeduse')}")
        if len(set(files)) != len(files):
            found.append(f"{id} lists a file twice")
        if kind == "webcontent" and (href is None or unquote(href) not in files):
            found.append(f"{id} has no file for its href")
        if kind == names.web_link_type and (
            href is not None or len(files) != 1 or resource.findall(f"{names.cp}dependency")
        ):
            found.append(f"{id} is a web link: one file, no href, no dependency")
        found += _role(resource, names)
    found += [f"{name} is not in the package" for name in listed - packed]
    found += [f"{name} is in no resource" for name in packed - listed]
    found += [
        f"{name} leaves the package" for name in packed if name.startswith("/") or ".." in name
    ]
    return found


def test_the_cartridge_keeps_every_rule(cartridge: Cartridge) -> None:
    assert faults(cartridge) == []


def test_importers_that_look_at_the_text_know_the_version(cartridge: Cartridge) -> None:
    """Some search the first kilobyte for the namespace, written like this."""
    head = cartridge.zip.read("imsmanifest.xml")[:1024].decode()
    assert f'xmlns="{cartridge.names.cp.strip("{}")}"' in head


def test_moodle_reads_the_cartridge_that_is_written_unless_another_version_is_asked_for() -> None:
    """Moodle's importer looks for this namespace of 1.1 (or that of 1.0) and takes no other."""
    manifest = zipfile.ZipFile(io.BytesIO(render_common_cartridge(plan_of(PLAIN)))).read(
        "imsmanifest.xml"
    )
    assert b'xmlns="http://www.imsglobal.org/xsd/imsccv1p1/imscp_v1p1"' in manifest
    assert b"<schemaversion>1.1.0</schemaversion>" in manifest
    assert b"v1p3" not in manifest


def test_lesson_pages_are_for_instructors_and_the_overview_is_for_all(version: str) -> None:
    cartridge = Cartridge(PLAIN, version)
    lom = cartridge.names.lom_resource
    roles = {
        (each.get("intendeduse"), each.findtext(f".//{lom}intendedEndUserRole/{lom}value"))
        for each in cartridge.all("resource")
    }
    assert roles == {("lessonplan", "Instructor"), ("syllabus", None), (None, None)}


def test_the_rules_can_be_broken(version: str) -> None:
    cartridge = Cartridge(PLAIN, version)
    root, cp = cartridge.root, cartridge.names.cp
    assert faults(cartridge) == []
    root.find(f"{cp}metadata/{cp}schemaversion").text = "1.2.0"
    pages = root.findall(f"{cp}resources/{cp}resource")
    next(root.iter(f"{cartridge.names.lom_resource}value")).text = "Teacher"
    pages[0].set("type", "webpage")
    pages[1].set("identifier", pages[2].get("identifier"))
    pages[3].find(f"{cp}file").set("href", "content/elsewhere.html")
    links = [each for each in pages if each.get("type") == cartridge.names.web_link_type]
    links[0].set("href", "links/x.xml")
    root.append(etree.SubElement(root, f"{cp}resources"))
    assert len(faults(cartridge)) >= 8


def test_a_module_is_a_folder_with_its_lessons_and_the_authors_links() -> None:
    cartridge = Cartridge(PLAIN)
    cp = cartridge.names.cp
    [top] = cartridge.root.findall(f"{cp}organizations/{cp}organization/{cp}item")
    folders = {
        folder.findtext(f"{cp}title"): [
            leaf.findtext(f"{cp}title") for leaf in folder.findall(f"{cp}item")
        ]
        for folder in top.findall(f"{cp}item")
    }
    assert folders == {
        "1. Flour": [
            "Overview",
            "1.1 Name three kinds of flour",
            "1.2 Compare how much water each takes (1 of 2: modelling)",
            "1.3 Compare how much water each takes (2 of 2: independent practice)",
            "https://example.org/flour",
            "https://example.org/mill",
        ],
        "2. Dough": [
            "Overview",
            "2.1 Make a dough (1 of 2: modelling)",
            "2.2 Make a dough (2 of 2: independent practice)",
        ],
    }
    uses = [each.get("intendeduse") for each in cartridge.all("resource")]
    assert uses.count("lessonplan") == 5


def test_web_links_are_documents_of_their_own(version: str) -> None:
    cartridge = Cartridge(PLAIN, version)
    wl = cartridge.names.wl
    link = etree.fromstring(cartridge.zip.read("links/link-1-1.xml"))
    assert link.tag == f"{wl}webLink"
    assert [child.tag for child in link] == [f"{wl}title", f"{wl}url"]
    assert link.find(f"{wl}url").attrib == {
        "href": "https://example.org/flour",
        "target": "_blank",
    }


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_pages_hold_no_markup_of_the_authors_texts(cartridge: Cartridge) -> None:
    tags = Tags()
    pages = [name for name in cartridge.zip.namelist() if name.endswith(".html")]
    for name in pages:
        tags.feed(cartridge.zip.read(name).decode())
    assert pages
    text_only = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ul", "li"}
    assert tags.seen <= text_only | {"table", "tr", "th", "td", "br"}
    assert tags.attributes <= {"lang", "charset", "class"}


def test_the_same_plan_gives_the_same_bytes() -> None:
    assert render_common_cartridge(plan_of(PLAIN)) == render_common_cartridge(plan_of(PLAIN))
