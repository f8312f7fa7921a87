"""Checks of full lessons, and changes of single values in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.scripted_model import choice, lesson

from homeroom.errors import Invalid
from homeroom.lessonplans.curriculum_parser import parse_curriculum
from homeroom.lessonplans.lesson import LessonBody, curriculum_links
from homeroom.lessonplans.lesson_allocation import LessonSlot, allocate_lessons
from homeroom.lessonplans.lesson_content import check_model_text, check_quizzes, count_words
from homeroom.lessonplans.lesson_edit import apply_changes
from homeroom.lessonplans.lesson_parts import (
    PARTS,
    LessonRequest,
    changed_parts,
    empty_parts,
    fill_places,
    parts_named,
    requested_places,
)
from homeroom.lessonplans.open_places import find_open_places

SLOT = allocate_lessons(
    parse_curriculum(
        {
            "title": "Bread",
            "modules": [
                {
                    "id": "m",
                    "title": "Dough",
                    "contactHours": 1,
                    "outcomes": [{"id": "o", "text": "Explain how dough rises"}],
                }
            ],
        }
    )
)[0]


def body(**changes: Any) -> LessonBody:
    question = {
        "write": list(PARTS),
        "lesson": {
            "workingTitle": "Dough",
            "minutes": 60,
            "outcomes": [{"id": "o", "bloomLevel": "understand"}],
        },
    }
    return LessonBody.model_validate({**lesson(question), **changes})


def codes(slot: LessonSlot = SLOT, **changes: Any) -> list[tuple[str, str]]:
    found = body(**changes)
    findings = [*check_quizzes(slot, found), *check_model_text(slot, found, PARTS)]
    return [(finding.code, finding.field) for finding in findings]


def test_a_full_lesson_passes() -> None:
    assert codes() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"exitQuiz": [choice("Why?", distractors=["IT  RISES.", "No"])]},
            [("answer_is_distractor", "exitQuiz")],
        ),
        ({"exitQuiz": [choice("Why?", distractors=["No", "no"])]}, [("duplicate", "exitQuiz")]),
        ({"starterQuiz": [choice("what does WARM dough do")]}, [("duplicate", "checks")]),
        ({"exitQuiz": [choice("Why?", outcomeId="x")]}, [("invented_outcome", "exitQuiz")]),
        (
            {"vocabulary": [{"term": t, "definition": "d"} for t in ("Dough", "dough ")]},
            [("duplicate", "vocabulary")],
        ),
        ({"practice": []}, [("missing", "practice")]),
        ({"homework": "[add: a task]"}, [("open_place", "homework")]),
        ({"homework": "word. " * 201}, [("too_long", "homework")]),
        ({"homework": "word " * 46}, [("too_long", "homework")]),
        ({"keyPoints": ["word. " * 41]}, [("too_long", "keyPoints")]),
    ],
)
def test_a_fault_is_found_in_its_part(
    changes: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert codes(**changes) == expected


def test_answers_may_be_marks() -> None:
    question = choice("Which mark ends a question?", answer="?", distractors=[".", "!"])
    assert codes(exitQuiz=[question]) == []


def test_learners_read_what_fits_the_minutes() -> None:
    tasks = [{"task": f"{n} " + "word. " * 140, "feedback": "f"} for n in range(6)]
    assert codes(practice=tasks) == []
    assert codes(replace(SLOT, minutes=15), practice=tasks) == [("too_long", "homework")]


def test_words_are_counted_in_scripts_without_spaces() -> None:
    assert count_words("One, two-three") == 3
    assert count_words("面包需要水") == 2


def test_sections_and_parts_are_named() -> None:
    assert parts_named(["exitQuiz", "support"]) == (
        *("exitQuiz", "differentiation", "homework", "references", "notes"),
    )
    with pytest.raises(Invalid, match="no section 'poems'"):
        parts_named(["poems"])


def test_open_places_are_filled_and_the_text_around_them_stays() -> None:
    before = body(
        materials=["[add: tools] and [add: flour]"], homework="Do this: [add: a task] at home."
    )
    request = LessonRequest(PARTS, fill=True)
    places = requested_places(before, request)
    assert [place.asks for place in places] == ["tools", "flour", "a task"]
    after = fill_places(before, places, {1: "a bowl", 3: "bake"})
    assert after.materials == ["a bowl and [add: flour]"]
    assert after.homework == "Do this: bake at home."
    assert changed_parts(before, after) == ("materials", "homework")
    assert [place.asks for place in find_open_places(after)] == ["flour"]
    assert empty_parts(before) == ()
    assert empty_parts(body(checks=[], notes=None)) == ("checks",)


def test_single_values_are_changed_added_and_removed() -> None:
    before = body(materials=["a", "b", "c"])
    values = {
        "activities/0/title": "New",
        "materials/0": None,
        "materials/2": None,
        "materials/-": "d",
        "differentiation/support": "A friend.",
        "notes": "By hand.",
    }
    after = apply_changes(before, {"title": "T", "values": values})
    assert after.materials == ["b", "d"]
    assert after.activities[0].title == "New"
    assert after.differentiation is not None
    assert (after.title, after.notes, after.differentiation.support) == (
        *("T", "By hand.", "A friend."),
    )


@pytest.mark.parametrize("path", ["activities/9/title", "title/x", "materials/x", "nothing/0", ""])
def test_a_path_that_is_not_there_is_refused(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        apply_changes(body(), {"values": {path: "x"}})
    assert len(caught.value.details["errors"]) == 1


def test_links_in_criteria_and_materials_are_known() -> None:
    curriculum = parse_curriculum(
        {
            "title": "Bread",
            "modules": [
                {
                    "id": "m",
                    "title": "Dough",
                    "contactHours": 1,
                    "outcomes": [
                        {"id": "o", "text": "Explain", "criteria": ["as in https://a.example/c"]}
                    ],
                }
            ],
            "preferences": {"materials": ["https://b.example/m"], "room": "www.c.example"},
        }
    )
    assert curriculum_links(curriculum) == {"a.example/c", "b.example/m", "www.c.example"}
