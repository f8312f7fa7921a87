"""Chapters, measured chapters, and parsing and dumping of course documents."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.catalogue import course_document
from homeroom.catalogue.course import Chapter, Course, MoveOn, Unit
from homeroom.errors import Invalid

IDS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20)
TITLES = IDS.filter(lambda text: bool(text.strip()))


def chapter(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "title": f"Chapter {id}", **more}


def document(*chapters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "title": "A course",
        "units": [{"id": "u", "title": "Unit", "chapters": list(chapters)}],
        **more,
    }


def faults(wrong: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        course_document.parse_course("course", 1, wrong)
    return {each["pointer"]: each["detail"] for each in caught.value.details["errors"]}


@pytest.mark.parametrize(
    ("move_on", "satisfied_by"),
    [
        (MoveOn.PASSED, {(False, True), (True, True)}),
        (MoveOn.COMPLETED, {(True, False), (True, True)}),
        (MoveOn.COMPLETED_AND_PASSED, {(True, True)}),
        (MoveOn.COMPLETED_OR_PASSED, {(True, False), (False, True), (True, True)}),
        (MoveOn.NOT_APPLICABLE, {(a, b) for a in (True, False) for b in (True, False)}),
    ],
)
def test_a_chapter_is_satisfied_by_its_move_on(
    move_on: MoveOn, satisfied_by: set[tuple[bool, bool]]
) -> None:
    asked = Chapter("c", "C", "u", move_on=move_on)
    for completed in (True, False):
        for passed in (True, False):
            assert asked.satisfied(completed, passed) == ((completed, passed) in satisfied_by)
            assert asked.satisfied(completed, passed, waived=True)


def test_optional_and_not_applicable_chapters_are_not_measured() -> None:
    course = course_document.parse_course(
        "course",
        1,
        document(
            chapter("a", weight=2),
            chapter("b", required=False, weight=5),
            chapter("c", moveOn="NotApplicable", weight=7),
            chapter("d", weight=0.0001),
        ),
    )
    assert course.required == {"a", "d"}
    assert course.total_weight == 20_001
    assert list(course.chapters) == ["a", "b", "c", "d"]


def test_a_minimal_document_gets_the_documented_defaults() -> None:
    course = course_document.parse_course("course", 3, document(chapter("a")))
    only = course.chapters["a"]
    assert (only.weight, only.required, only.move_on, only.pass_threshold) == (
        10_000,
        True,
        MoveOn.COMPLETED,
        None,
    )
    assert course.auto_enrol
    assert not course.trust_client
    assert not course.complete_on_edit
    assert (course.learner_policy, course.quiz_policy) == ("at_next_visit", "best")
    assert course.version == 3
    assert course.facts_needed == {"items"}


def test_all_faults_are_reported_at_once_with_their_places() -> None:
    wrong = document(
        chapter("a", weight=-1),
        chapter("a", moveOn="Attended"),
        chapter("b", moveOn="Passed"),
        chapter("c", quiz={"passThreshold": 0.12345}),
        chapter("d", quiz={"passThreshold": 1.1}),
        {"id": "e\n", "title": " ", "required": "yes", "colour": "red"},
        criteria={
            "all": [
                {"type": "prerequisite", "courseId": "course"},
                {"type": "n_of_m", "n": 9},
                {"type": "n_of_m", "n": 1, "of": ["nowhere"]},
                {"any": []},
                {"type": "attendance"},
                {"type": "min_course_grade", "grade": 70},
                {"type": "min_time", "seconds": 0},
            ]
        },
        validity="1 year",
        estimatedHours=-1,
        learnerPolicy="sometimes",
        autoEnrol=1,
        courseId="another",
    )
    found = faults(wrong)
    chapters = "#/units/0/chapters"
    assert set(found) == {
        f"{chapters}/0/weight",
        f"{chapters}/1/id",
        f"{chapters}/1/moveOn",
        f"{chapters}/2/quiz",
        f"{chapters}/3/quiz/passThreshold",
        f"{chapters}/4/quiz/passThreshold",
        f"{chapters}/5/id",
        f"{chapters}/5/title",
        f"{chapters}/5/required",
        f"{chapters}/5/colour",
        "#/criteria/all/0/courseId",
        "#/criteria/all/1/n",
        "#/criteria/all/2/of/0",
        "#/criteria/all/3/any",
        "#/criteria/all/4/type",
        "#/criteria/all/5/grade",
        "#/criteria/all/6/seconds",
        "#/validity",
        "#/estimatedHours",
        "#/learnerPolicy",
        "#/autoEnrol",
        "#/courseId",
    }
    assert "4 decimals" in found[f"{chapters}/3/quiz/passThreshold"]


@pytest.mark.parametrize(
    "weight", [math.nan, math.inf, -math.inf, 10**400, 1e300, "1", True, None, 0.00001, [1]]
)
def test_a_weight_out_of_range_or_of_another_type_is_a_fault(weight: object) -> None:
    assert set(faults(document(chapter("a", weight=weight)))) == {"#/units/0/chapters/0/weight"}


@pytest.mark.parametrize("wrong", [None, [], "course", 5, {}, {"title": "x"}, {"units": {}}])
def test_a_document_of_another_shape_is_a_fault(wrong: object) -> None:
    assert faults(wrong)


@pytest.mark.parametrize("units", [[], [{"id": "u", "title": "U", "chapters": []}]])
def test_a_course_that_could_never_be_finished_is_a_fault(units: list[object]) -> None:
    stored = course_document.parse_course("course", 1, {**document(), "units": units})
    with pytest.raises(Invalid) as caught:  # what is stored is read, and no new version made
        course_document.check_new_course(stored)
    assert [each["pointer"] for each in caught.value.details["errors"]] == ["#/units"]


def test_a_course_has_at_most_two_thousand_chapters() -> None:
    most = document(*(chapter(str(number)) for number in range(2_000)))
    assert len(course_document.parse_course("course", 1, most).chapters) == 2_000
    assert set(faults(document(*(chapter(str(number)) for number in range(2_001))))) == {"#/units"}


def test_a_document_with_many_faults_shows_the_first_and_counts_all() -> None:
    wrong = document(*({"id": ""} for _ in range(500)))
    with pytest.raises(Invalid) as caught:
        course_document.parse_course("course", 1, wrong)
    assert len(caught.value.details["errors"]) == 50
    assert caught.value.details["errorCount"] == 1_000


def test_half_of_a_surrogate_pair_in_a_title_is_a_fault() -> None:
    assert set(faults({**document(chapter("a")), "title": "\ud800"})) == {"#/title"}


@st.composite
def courses(draw: st.DrawFn) -> Course:
    ids = draw(st.lists(IDS, unique=True, max_size=8))
    chapters = []
    for id in ids:
        move_on = draw(st.sampled_from(MoveOn))
        needs_pass = move_on in {MoveOn.PASSED, MoveOn.COMPLETED_AND_PASSED}
        scores = st.integers(0, 10_000)
        chapters.append(
            Chapter(
                id,
                draw(TITLES),
                "u",
                weight=draw(st.integers(0, 10_000_000)),
                required=draw(st.booleans()),
                move_on=move_on,
                pass_threshold=draw(scores if needs_pass else st.none() | scores),
            )
        )
    return Course("course", 7, draw(TITLES), (Unit("u", "Unit", tuple(chapters)),))


@given(courses())
def test_a_course_survives_dumping_and_parsing(course: Course) -> None:
    text = json.dumps(course_document.dump_course(course))
    again = course_document.parse_course("course", 7, json.loads(text))
    assert again == course
    assert again.chapters == course.chapters
    assert json.dumps(course_document.dump_course(again)) == text


STORED = (
    '{"autoEnrol":true,"badgeTemplateId":null,"completeOnEdit":false,"criteria":{"all":[{"typ'
    'e":"all_items"},{"any":[{"n":1,"of":["a"],"type":"n_of_m"},{"grade":0.7,"type":"min_cour'
    'se_grade"},{"seconds":60,"type":"min_time"}]},{"courseId":"x","type":"prerequisite"},{"t'
    'ype":"manual"}]},"estimatedHours":2,"learnerPolicy":"now","quizPolicy":"best","title":"F'
    'ire safety ü","trustClient":false,"units":[{"chapters":[{"id":"a","moveOn":"Completed","'
    'quiz":null,"required":true,"title":"A","weight":2.5},{"id":"q","moveOn":"Passed","quiz":'
    '{"passThreshold":0.8},"required":false,"title":"Q","weight":3}],"id":"u","title":"U"}],"'
    'validity":"P1Y"}'
)


def test_the_canonical_text_of_a_course_never_changes() -> None:
    """Its hash decides whether a PUT creates a new version, also after an upgrade."""
    written = {
        "title": "Fire safety ü",
        "units": [
            {
                "id": "u",
                "title": "U",
                "chapters": [
                    {"id": "a", "title": "A", "weight": 2.5},
                    {
                        "id": "q",
                        "title": "Q",
                        "moveOn": "Passed",
                        "quiz": {"passThreshold": 0.8},
                        "required": False,
                        "weight": 3.0,
                    },
                ],
            }
        ],
        "criteria": {
            "all": [
                {"type": "all_items"},
                {
                    "any": [
                        {"type": "n_of_m", "n": 1.0, "of": ["a"]},
                        {"type": "min_course_grade", "grade": 0.7},
                        {"type": "min_time", "seconds": 60},
                    ]
                },
                {"type": "prerequisite", "courseId": "x"},
                {"type": "manual"},
            ]
        },
        "validity": "P1Y",
        "estimatedHours": 2.0,
        "learnerPolicy": "now",
        "courseId": "fire",
        "version": 9,
        "publishedAt": "ignored",
    }
    for document in (written, json.loads(STORED)):
        course = course_document.parse_course("fire", 1, document)
        text = msgspec.json.encode(course_document.dump_course(course), order="sorted").decode()
        assert text == STORED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "title", "units", "chapters", "weight", "criteria", "all", "type", "n", "of"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON, JSON, JSON)
def test_any_json_is_parsed_or_rejected_with_faults(
    units: object, criteria: object, quiz: object
) -> None:
    for wrong in (
        {"title": "x", "units": units, "criteria": criteria},
        document(chapter("a", quiz=quiz), criteria=criteria, validity=units),
    ):
        try:
            course_document.parse_course("course", 1, wrong)
        except Invalid as error:
            json.dumps(error.details, allow_nan=False)
