"""The Common Cartridge keeps the rules of the specification (IMS Common Cartridge 1.3).

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

from homeroom.lessonplans.export.common_cartridge import render_common_cartridge

CP = "{http://www.imsglobal.org/xsd/imsccv1p3/imscp_v1p1}"
LOM = "{http://ltsc.ieee.org/xsd/imsccv1p3/LOM/manifest}"
WL = "{http://www.imsglobal.org/xsd/imsccv1p3/imswl_v1p3}"
TYPES = {
    "webcontent",
    "imswl_xmlv1p3",
    "imsdt_xmlv1p3",
    "imsqti_xmlv1p2/imscc_xmlv1p3/assessment",
    "imsqti_xmlv1p2/imscc_xmlv1p3/question-bank",
    "associatedcontent/imscc_xmlv1p3/learning-application-resource",
    "imsbasiclti_xmlv1p3",
}
USES = {"lessonplan", "syllabus", "assignment", "unspecified"}
NC_NAME = re.compile(r"[A-Za-z_][\w.-]*")
CHILDREN = {
    # element: what it may hold, in this order, and how often at least and at most
    "manifest": [("metadata", 1, 1), ("organizations", 1, 1), ("resources", 1, 1)],
    "metadata": [("schema", 1, 1), ("schemaversion", 1, 1), (f"{LOM}lom", 1, 1)],
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

    def __init__(self, body: dict[str, Any]) -> None:
        self.zip = zipfile.ZipFile(io.BytesIO(render_common_cartridge(plan_of(body))))
        self.root = etree.fromstring(self.zip.read("imsmanifest.xml"))

    def all(self, name: str) -> list[Any]:
        return list(self.root.iter(f"{CP}{name}"))


@pytest.fixture(params=["plain", "hostile"])
def cartridge(request: pytest.FixtureRequest) -> Cartridge:
    return Cartridge(PLAIN if request.param == "plain" else hostile())


def faults(cartridge: Cartridge) -> list[str]:
    """Return every rule that a cartridge breaks."""
    root = cartridge.root
    return [
        *_structure(root),
        *_ids(root),
        *_items(root),
        *_resources(root, set(cartridge.zip.namelist())),
    ]


def _structure(root: Any) -> list[str]:
    found = []
    if root.tag != f"{CP}manifest":
        found.append(f"the root is {root.tag}")
    for element in root.iter(f"{CP}*"):
        name = element.tag.removeprefix(CP)
        allowed = ATTRIBUTES.get(name, set())
        odd = {key for key in element.attrib if not key.startswith(XSI)} - allowed
        if odd:
            found.append(f"{name} has {odd}")
        if name not in CHILDREN:
            continue
        tags = [child.tag.removeprefix(CP) for child in element]
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
    if root.findtext(f"{CP}metadata/{CP}schema") != "IMS Common Cartridge":
        found.append("schema")
    if root.findtext(f"{CP}metadata/{CP}schemaversion") != "1.3.0":
        found.append("schemaversion")
    if not root.findtext(f"{CP}metadata/{LOM}lom/{LOM}general/{LOM}title/{LOM}string"):
        found.append("the cartridge has no title")
    return found


def _ids(root: Any) -> list[str]:
    ids = [element.get("identifier") for element in root.iter() if element.get("identifier")]
    found = [f"{id!r} is no XML name" for id in ids if not NC_NAME.fullmatch(id)]
    found += [f"{id!r} is there twice" for id in set(ids) if ids.count(id) > 1]
    resources = {each.get("identifier") for each in root.iter(f"{CP}resource")}
    for element in root.iter(f"{CP}item", f"{CP}dependency"):
        reference = element.get("identifierref")
        if reference is not None and reference not in resources:
            found.append(f"{reference!r} leads nowhere")
    return found


def _items(root: Any) -> list[str]:
    found = []
    for organization in root.iter(f"{CP}organization"):
        if organization.get("structure") != "rooted-hierarchy":
            found.append("structure")
        [top] = organization.findall(f"{CP}item")
        if top.find(f"{CP}title") is not None or top.get("identifierref") is not None:
            found.append("the top item has neither title nor reference")
        for item in top.iter(f"{CP}item"):
            if item is top:
                continue
            if not (item.findtext(f"{CP}title") or "").strip():
                found.append(f"{item.get('identifier')} has no title")
            if item.get("identifierref") and item.findall(f"{CP}item"):
                found.append(f"{item.get('identifier')} is a leaf with leaves")
            if not item.get("identifierref") and not item.findall(f"{CP}item"):
                found.append(f"{item.get('identifier')} is an empty folder")
    return found


def _resources(root: Any, names: set[str]) -> list[str]:
    found = []
    listed = {"imsmanifest.xml"}
    for resource in root.iter(f"{CP}resource"):
        id, kind, href = (resource.get(key) for key in ("identifier", "type", "href"))
        files = [unquote(each.get("href")) for each in resource.findall(f"{CP}file")]
        listed |= set(files)
        if kind not in TYPES:
            found.append(f"{id} is a {kind}")
        if resource.get("intendeduse", "unspecified") not in USES:
            found.append(f"{id} is meant for {resource.get('intendeduse')}")
        if len(set(files)) != len(files):
            found.append(f"{id} lists a file twice")
        if kind == "webcontent" and (href is None or unquote(href) not in files):
            found.append(f"{id} has no file for its href")
        if kind == "imswl_xmlv1p3" and (
            href is not None or len(files) != 1 or resource.findall(f"{CP}dependency")
        ):
            found.append(f"{id} is a web link: one file, no href, no dependency")
    found += [f"{name} is not in the package" for name in listed - names]
    found += [f"{name} is in no resource" for name in names - listed]
    found += [
        f"{name} leaves the package" for name in names if name.startswith("/") or ".." in name
    ]
    return found


def test_the_cartridge_keeps_every_rule(cartridge: Cartridge) -> None:
    assert faults(cartridge) == []


def test_importers_that_look_at_the_text_know_the_version(cartridge: Cartridge) -> None:
    """Some search the first kilobyte for the namespace, written like this."""
    head = cartridge.zip.read("imsmanifest.xml")[:1024].decode()
    assert 'xmlns="http://www.imsglobal.org/xsd/imsccv1p3/imscp_v1p1"' in head


def test_the_rules_can_be_broken() -> None:
    cartridge = Cartridge(PLAIN)
    root = cartridge.root
    root.find(f"{CP}metadata/{CP}schemaversion").text = "1.2.0"
    pages = root.findall(f"{CP}resources/{CP}resource")
    pages[0].set("type", "webpage")
    pages[1].set("identifier", pages[2].get("identifier"))
    pages[3].find(f"{CP}file").set("href", "content/elsewhere.html")
    links = [each for each in pages if each.get("type") == "imswl_xmlv1p3"]
    links[0].set("href", "links/x.xml")
    root.append(etree.SubElement(root, f"{CP}resources"))
    assert len(faults(cartridge)) >= 7


def test_a_module_is_a_folder_with_its_lessons_and_the_authors_links() -> None:
    cartridge = Cartridge(PLAIN)
    [top] = cartridge.root.findall(f"{CP}organizations/{CP}organization/{CP}item")
    folders = {
        folder.findtext(f"{CP}title"): [
            leaf.findtext(f"{CP}title") for leaf in folder.findall(f"{CP}item")
        ]
        for folder in top.findall(f"{CP}item")
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


def test_web_links_are_documents_of_their_own() -> None:
    cartridge = Cartridge(PLAIN)
    link = etree.fromstring(cartridge.zip.read("links/link-1-1.xml"))
    assert link.tag == f"{WL}webLink"
    assert [child.tag for child in link] == [f"{WL}title", f"{WL}url"]
    assert link.find(f"{WL}url").attrib == {
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
