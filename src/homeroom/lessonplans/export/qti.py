"""Quizzes in QTI 1.2.1, in the profile of Common Cartridge (pure).

The elements, their order and the vocabularies are those of "IMS Common Cartridge Profile", chapter
6: multiple choice and essay items, scored from 0 to 100.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

from lxml import etree

from homeroom.lessonplans.curriculum import printable
from homeroom.lessonplans.export.quiz import Quiz, QuizItem

QTI = "http://www.imsglobal.org/xsd/ims_qtiasiv1p2"
_RESPONSE = "response-1"
_FEEDBACK = "general-feedback"


def quiz_document(quiz: Quiz, identifier: str) -> etree._Element:
    """Return a quiz as an assessment; ``identifier`` is unique in the cartridge."""
    root = etree.Element(f"{{{QTI}}}questestinterop", nsmap={None: QTI})
    assessment = _add(root, "assessment", ident=identifier, title=printable(quiz.title))
    _add_metadata(
        assessment,
        {
            "cc_profile": "cc.exam.v0p1",
            "qmd_assessmenttype": "Examination",
            "qmd_scoretype": "Percentage",
        },
    )
    section = _add(assessment, "section", ident="root_section")
    for number, item in enumerate(quiz.items, start=1):
        _add_item(section, item, f"{identifier}-item-{number}")
    return root


def _add_item(section: etree._Element, item: QuizItem, identifier: str) -> None:
    element = _add(section, "item", ident=identifier, title=printable(item.title))
    profile = "cc.multiple_choice.v0p1" if item.choices else "cc.essay.v0p1"
    fields = {"cc_profile": profile}
    if not item.choices:
        fields |= {"qmd_scoringpermitted": "Yes", "qmd_computerscored": "No"}
    _add_metadata(_add(element, "itemmetadata"), fields)
    presentation = _add(element, "presentation")
    _add_text(presentation, item.prompt)
    if item.choices:
        _add_choices(element, presentation, item)
    else:
        response = _add(presentation, "response_str", ident=_RESPONSE, rcardinality="Single")
        render = _add(response, "render_fib")
        _add(render, "response_label", ident="answer-1", rshuffle="No")


def _add_choices(element: etree._Element, presentation: etree._Element, item: QuizItem) -> None:
    response = _add(presentation, "response_lid", ident=_RESPONSE, rcardinality="Single")
    render = _add(response, "render_choice")
    for choice in item.choices:
        _add_text(_add(render, "response_label", ident=choice.id), choice.text)
    processing = _add(element, "resprocessing")
    outcomes = _add(processing, "outcomes")
    _add(outcomes, "decvar", varname="SCORE", vartype="Decimal", minvalue="0", maxvalue="100")
    if item.feedback is not None:
        condition = _add(processing, "respcondition", {"continue": "Yes"})
        _add(_add(condition, "conditionvar"), "other")
        _add(condition, "displayfeedback", feedbacktype="Response", linkrefid=_FEEDBACK)
    for choice in item.choices:
        if choice.is_right:
            condition = _add(processing, "respcondition", {"continue": "No"})
            variable = _add(condition, "conditionvar")
            _add(variable, "varequal", respident=_RESPONSE).text = choice.id
            _add(condition, "setvar", action="Set", varname="SCORE").text = "100"
    if item.feedback is not None:
        feedback = _add(element, "itemfeedback", ident=_FEEDBACK)
        _add_text(_add(feedback, "flow_mat"), item.feedback)


def _add_metadata(parent: etree._Element, fields: Mapping[str, str]) -> None:
    metadata = _add(parent, "qtimetadata")
    for label, entry in fields.items():
        field = _add(metadata, "qtimetadatafield")
        _add(field, "fieldlabel").text = label
        _add(field, "fieldentry").text = entry


def _add_text(parent: etree._Element, text: str) -> None:
    """Add text as HTML: platforms read plain text as HTML, too."""
    lines = html.escape(printable(text), quote=False).replace("\n", "<br/>")
    _add(_add(parent, "material"), "mattext", texttype="text/html").text = f"<p>{lines}</p>"


def _add(
    parent: etree._Element,
    name: str,
    attributes: Mapping[str, str] | None = None,
    **more: str,
) -> etree._Element:
    return etree.SubElement(parent, f"{{{QTI}}}{name}", {**(attributes or {}), **more})
