"""Quizzes and assignments of a cartridge keep the rules of QTI 1.2 and of Common Cartridge 1.3.

The rules are written down from the Common Cartridge profile of QTI 1.2.1; pyslet, which has its own
model of QTI, reads the same files.
"""

from __future__ import annotations

import html
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from tests.support.lesson_plan import HOSTILE_TEXTS, PLAIN, hostile, plan_of

from homeroom.lessonplans.export.qti import quiz_document
from homeroom.lessonplans.export.quiz import Quiz, choice_item
from homeroom.lessonplans.export.render_process import render

QTI = "{http://www.imsglobal.org/xsd/ims_qtiasiv1p2}"
ASSIGNMENT = "{http://www.imsglobal.org/xsd/imscc_extensions/assignment}"
CHILDREN = {
    # element: what it may hold, in this order
    "questestinterop": ["assessment"],
    "assessment": ["qtimetadata", "rubric", "section"],
    "section": ["item"],
    "item": ["itemmetadata", "presentation", "resprocessing", "itemfeedback"],
    "itemmetadata": ["qtimetadata"],
    "qtimetadata": ["qtimetadatafield"],
    "qtimetadatafield": ["fieldlabel", "fieldentry"],
    "presentation": ["material", "response_lid", "response_str"],
    "response_lid": ["render_choice"],
    "response_str": ["render_fib"],
    "render_choice": ["response_label"],
    "render_fib": ["response_label"],
    "response_label": ["material"],
    "material": ["mattext"],
    "resprocessing": ["outcomes", "respcondition"],
    "outcomes": ["decvar"],
    "respcondition": ["conditionvar", "setvar", "displayfeedback"],
    "conditionvar": ["varequal", "other"],
    "itemfeedback": ["flow_mat"],
    "flow_mat": ["material"],
}
QUESTION: dict[str, Any] = {
    "question": 'Which of these is <b>ground</b> & "sieved"?',
    "answer": "Rye flour",
    "distractors": ["Salt", "Water", "Oil"],
    "feedback": "Think of grain.",
}


def quiz_faults(root: Any) -> list[str]:
    """Return every rule that a quiz breaks."""
    found = []
    for element in root.iter():
        name = element.tag.removeprefix(QTI)
        order = CHILDREN.get(name, [])
        places = [order.index(tag) if (tag := child.tag.removeprefix(QTI)) in order else -1
                  for child in element]  # fmt: skip
        if -1 in places or places != sorted(places):
            found.append(f"{name} holds {[child.tag for child in element]}")
    idents = [each.get("ident") for each in root.iter(f"{QTI}item")]
    if len(set(idents)) != len(idents) or not idents:
        found.append(f"items {idents}")
    for item in root.iter(f"{QTI}item"):
        found += _item_faults(item)
    return found


def _item_faults(item: Any) -> list[str]:
    fields = {
        each.findtext(f"{QTI}fieldlabel"): each.findtext(f"{QTI}fieldentry")
        for each in item.iter(f"{QTI}qtimetadatafield")
    }
    found = []
    labels = [each.get("ident") for each in item.iter(f"{QTI}response_label")]
    right = [each.text for each in item.iter(f"{QTI}varequal")]
    feedback = {each.get("ident") for each in item.iter(f"{QTI}itemfeedback")}
    linked = {each.get("linkrefid") for each in item.iter(f"{QTI}displayfeedback")}
    if feedback != linked:
        found.append(f"feedback {feedback} is linked as {linked}")
    if fields["cc_profile"] == "cc.multiple_choice.v0p1":
        if len(right) != 1 or right[0] not in labels or len(set(labels)) < 2:
            found.append(f"{right} of {labels} is right")
        if [each.text for each in item.iter(f"{QTI}setvar")] != ["100"]:
            found.append("the right answer does not score 100")
    elif fields["cc_profile"] == "cc.essay.v0p1":
        if right or fields.get("qmd_computerscored") != "No":
            found.append("no program can score an essay")
    else:
        found.append(f"the profile is {fields['cc_profile']}")
    return found


def files_of(body: dict[str, Any], form: str, folder: str) -> dict[str, bytes]:
    packed = zipfile.ZipFile(io.BytesIO(render(form, plan_of(body))))
    return {name: packed.read(name) for name in packed.namelist() if name.startswith(folder)}


def read_by_pyslet(files: dict[str, bytes], folder: Path) -> list[dict[str, Any]]:
    """Return what an independent reader finds in some quizzes."""
    paths = [folder / name.replace("/", "-") for name in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.write_bytes(content)
    reader = Path(__file__).parents[2] / "support" / "quiz_reader.py"
    command = [sys.executable, "-W", "ignore", str(reader), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("form", ["imscc", "imscc-1.3"])
@pytest.mark.parametrize("body", [PLAIN, hostile()], ids=["plain", "hostile"])
def test_quizzes_of_blueprints_keep_every_rule(body: dict[str, Any], form: str) -> None:
    files = files_of(body, form, "quizzes/")
    assert files
    for content in files.values():
        assert quiz_faults(etree.fromstring(content)) == []


def test_a_blueprint_becomes_a_quiz_with_a_place_for_each_question(tmp_path: Path) -> None:
    files = files_of(PLAIN, "imscc", "quizzes/")
    [quiz] = read_by_pyslet(files, tmp_path)
    assert quiz["title"] == "1.1 Quiz: f1"
    [assessment] = [each for each in plan_of(PLAIN).lessons[0].body.assessments if each.blueprint]  # type: ignore[union-attr]
    assert len(quiz["items"]) == sum(row.questions for row in assessment.blueprint) == 5
    assert [each["texts"][0] for each in quiz["items"]][:1] == [
        "<p>Name three kinds of flour (remember). [add: question 1]</p>"
    ]
    assert [each["right"] for each in quiz["items"]] == [[]] * 5  # a person grades them


def test_a_question_is_read_back_with_its_one_right_answer(tmp_path: Path) -> None:
    quiz = Quiz("exitQuiz", "1.1 Exit quiz", [choice_item(QUESTION, 1)])
    root = quiz_document(quiz, "quiz-1")
    assert quiz_faults(root) == []
    [found] = read_by_pyslet({"quiz.xml": etree.tostring(root)}, tmp_path)
    [item] = found["items"]
    prompt, *options, feedback = (html.unescape(text[3:-4]) for text in item["texts"])
    assert prompt == QUESTION["question"]
    assert feedback == QUESTION["feedback"]
    assert sorted(options) == sorted([QUESTION["answer"], *QUESTION["distractors"]])
    [[right, score]] = item["right"]
    assert options[item["labels"].index(right)] == QUESTION["answer"]
    assert score == "100"


def test_the_right_answer_has_no_place_of_its_own() -> None:
    places = set()
    for number in range(20):
        question = {**QUESTION, "answer": f"Flour {number}"}
        [place] = [
            index for index, each in enumerate(choice_item(question, 1).choices) if each.is_right
        ]
        places.add(place)
    assert len(places) > 1


def test_the_rules_of_quizzes_can_be_broken() -> None:
    root = quiz_document(Quiz("exitQuiz", "Quiz", [choice_item(QUESTION, 1)]), "quiz-1")
    next(root.iter(f"{QTI}varequal")).text = "choice-9"
    next(root.iter(f"{QTI}setvar")).text = "1"
    next(root.iter(f"{QTI}displayfeedback")).set("linkrefid", "nothing")
    section = next(root.iter(f"{QTI}section"))
    section.append(etree.SubElement(section, f"{QTI}qtimetadata"))
    assert len(quiz_faults(root)) == 4


@pytest.mark.parametrize("body", [PLAIN, hostile()], ids=["plain", "hostile"])
def test_a_cartridge_1_3_has_assignments_with_points_from_their_rubric(
    body: dict[str, Any],
) -> None:
    files = files_of(body, "imscc-1.3", "assignments/")
    lessons = [each.body for each in plan_of(body).lessons if each.body is not None]
    rubrics = [each.rubric for one in lessons for each in one.assessments if each.rubric]
    homework = sum(each.homework is not None for each in lessons)
    assert len(files) == len(rubrics) + homework
    points = []
    for content in files.values():
        root = etree.fromstring(content)
        assert root.tag == f"{ASSIGNMENT}assignment"
        order = ["title", "text", "instructor_text", "gradable", "submission_formats"]
        tags = [child.tag.removeprefix(ASSIGNMENT) for child in root]
        assert tags == [tag for tag in order if tag in tags]
        gradable = root.find(f"{ASSIGNMENT}gradable")
        if gradable.text == "true":
            assert "instructor_text" in tags
            points.append(int(gradable.get("points_possible")))
        assert {each.get("type") for each in root.iter(f"{ASSIGNMENT}format")} == {"html", "file"}
        # Only what the page itself marks up is markup.
        inside = etree.HTML(root.findtext(f"{ASSIGNMENT}text"))
        assert {each.tag for each in inside.iter()} <= {"html", "body", "p", "br"}
    assert sorted(points) == sorted(sum(len(row.steps) - 1 for row in rubric) for rubric in rubrics)
    assert files_of(body, "imscc", "assignments/") == {}


def test_hostile_texts_reach_the_quizzes() -> None:
    content = b"".join(files_of(hostile(), "imscc", "quizzes/").values()).decode()
    shown = html.unescape(html.unescape(content))
    assert any(text.split("\n")[0] in shown for text in HOSTILE_TEXTS)
