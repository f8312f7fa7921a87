"""Open places are found, listed and closed; a plan without any is a plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.lesson_plan import OLD_LESSON, PLAIN, hostile, plan_of

from homeroom.lessonplans.export.formats import EXPORT_FORMATS, export_file
from homeroom.lessonplans.lesson import LessonBody
from homeroom.lessonplans.open_places import find_open_places
from homeroom.lessonplans.plan import LessonPlan, plan_document
from homeroom.lessonplans.wording import load_wording

GERMAN = {**PLAIN, "locale": "de-AT"}


def filled(plan: LessonPlan) -> LessonPlan:
    """Return a plan in which a person has filled every place."""

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("[add: ", "(").replace("[ergänzen: ", "(").replace("]", ")")
        if isinstance(value, dict):
            return {key: fill(each) for key, each in value.items()}
        return [fill(each) for each in value] if isinstance(value, list) else value

    return replace(
        plan,
        lessons=tuple(
            replace(
                lesson,
                edited=True,
                body=LessonBody.model_validate(fill(lesson.body.model_dump(mode="json"))),
            )
            for lesson in plan.lessons
            if lesson.body is not None
        ),
    )


@pytest.mark.parametrize("body", [PLAIN, GERMAN], ids=["en", "de"])
def test_an_outline_lists_its_places_and_a_filled_plan_has_none(body: dict[str, Any]) -> None:
    plan = plan_of(body)
    document = plan_document(plan)
    assert document["kind"] == "outline"
    assert document["totals"]["openPlaces"] == len(document["openPlaces"]) > 10
    place = next(each for each in document["openPlaces"] if each["field"].startswith("activities"))
    assert set(place) == {"lessonId", "number", "field", "asks"}
    done = plan_document(filled(plan))
    assert (done["kind"], done["status"], done["openPlaces"]) == ("plan", "complete", [])
    assert done["totals"]["openPlaces"] == 0


@pytest.mark.parametrize("body", [PLAIN, GERMAN], ids=["en", "de"])
def test_the_checklist_has_a_box_for_each_place(body: dict[str, Any]) -> None:
    plan = plan_of(body)
    exported = export_file(plan, "checklist")
    text = exported.content.decode()
    assert exported.name == "bread-for-beginners.checklist.md"
    assert text.count("- [ ] ") == len(plan.open_places)
    labels = load_wording("de" if body is GERMAN else "en").labels
    assert labels["checklist_none"] in export_file(filled(plan), "checklist").content.decode()


def test_every_text_export_of_an_outline_is_marked() -> None:
    plan = plan_of(GERMAN)
    assert len(plan.open_places) > 10
    mark = load_wording("de").labels["outline"].format(count=len(plan.open_places))
    render = EXPORT_FORMATS["md"].render
    assert render is not None
    assert mark in render(plan).decode()
    assert mark not in render(filled(plan)).decode()


def test_places_of_earlier_releases_are_found() -> None:
    places = find_open_places(LessonBody.model_validate(OLD_LESSON))
    assert [place.field for place in places] == [
        *("priorKnowledge/0", "materials/0", "activities/0/facilitatorDoes"),
    ]
    assert places[2].asks == "add the content and one worked example"


def test_marks_in_an_authors_words_are_not_open_places() -> None:
    text = "Explain [add: this] and say Facilitator: add that"
    body = hostile()
    count = len(plan_of(body).open_places)
    body["modules"][0]["outcomes"][0]["text"] = text
    body["modules"][0]["outcomes"][0]["criteria"] = ["[ergänzen: alles]"]
    assert len(plan_of(body).open_places) - count in range(-3, 4)
    asks = {place.asks for _, place in plan_of(body).open_places}
    assert not asks & {"this", "that", "alles"}


def test_both_languages_have_the_same_wording_with_the_same_places() -> None:
    english, german = load_wording("en"), load_wording("de")
    assert english.activities.keys() == german.activities.keys()
    assert english.labels.keys() == german.labels.keys()
    for id, texts in english.activities.items():
        for mine, other in zip(texts, german.activities[id], strict=True):
            assert mine.count("[add: ") == other.count("[ergänzen: "), id
            for name in ("{outcome}", "{earlier}"):
                assert mine.count(name) == other.count(name), id
