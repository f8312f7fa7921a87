"""The form of a lesson in a real browser: lists inside lists, values by word, and the model."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.console.test_console import has_focus
from tests.console.test_people_pages import lesson_address
from tests.support.people_school import PeopleSchool

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("console")]
LESSON = 0


def lesson_of(people: PeopleSchool, number: int = LESSON) -> dict[str, Any]:
    plan = people.get(f"/api/v3/workflow/{people.plan_id}/step10")["data"]
    return dict(plan["modules"][0]["lessons"][number])


def open_lesson(page: Page, people: PeopleSchool, number: int = LESSON) -> None:
    page.goto(f"/sign-in?next={lesson_address(people, number)}#{people.token('ida', 'author')}")
    expect(page.get_by_role("form", name="Change the lesson")).to_be_visible()


def test_lists_inside_entries_grow_and_shrink_by_keyboard(page: Page, people: PeopleSchool) -> None:
    open_lesson(page, people)
    activity = page.get_by_role("group", name="Activities 1")
    had = lesson_of(people)["activities"][0].get("resources", [])
    for text in ("A bowl", "Flour"):
        activity.get_by_role("button", name="Add: Resource").focus()
        page.keyboard.press("Enter")
        field = page.locator("textarea:focus")  # the new entry has the focus
        expect(field).to_have_value("")
        page.keyboard.type(text)
    first = activity.get_by_role("button", name=f"Remove Resource {len(had) + 1}")
    first.focus()
    page.keyboard.press("Enter")
    resource = activity.get_by_role("textbox", name=f"Resource {len(had) + 1}", exact=True)
    expect(resource).to_have_value("Flour")
    assert not has_focus(page.locator("body"))
    activity.get_by_label("Phase").select_option(label="Check")
    assessment = page.get_by_role("group", name="Assessment 1")
    assessment.get_by_role("button", name="Add: Rubric").click()
    assessment.get_by_label("Criterion").fill("Crust")
    for step, text in enumerate(("Pale", "Brown"), 1):
        assessment.get_by_role("textbox", name=f"Step {step}", exact=True).fill(text)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.", exact=True)).to_be_visible()
    stored = lesson_of(people)
    assert stored["activities"][0]["resources"] == [*had, "Flour"]
    assert stored["activities"][0]["phase"] == "check"
    [row] = stored["assessments"][0]["rubric"]
    assert row == {"criterion": "Crust", "steps": ["Pale", "Brown"]}


def test_a_part_that_a_lesson_lacks_is_added(page: Page, people: PeopleSchool) -> None:
    open_lesson(page, people)
    more = page.get_by_role("group", name="Parts that this lesson does not have")
    button = more.get_by_role("button").first
    part = button.inner_text().removeprefix("Add: ")
    button.click()
    expect(page.get_by_role("group", name=part, exact=True)).to_be_visible()
    expect(more.get_by_role("button", name=f"Add: {part}", exact=True)).to_have_count(0)


@pytest.mark.parametrize(("of", "route"), [("lesson", "regenerate?fill=true"), ("plan", "/fill")])
def test_filling_by_model_asks_first_and_says_what_is_missing(
    page: Page, people: PeopleSchool, of: str, route: str
) -> None:
    open_lesson(page, people, number=1)
    if of == "plan":
        page.get_by_role("link", name="Bread for beginners").click()
        expect(page.get_by_role("heading", name="Bread for beginners")).to_be_focused()
    page.get_by_role("button", name="Fill by model").click()
    with page.expect_response(lambda answer: answer.url.endswith(route)) as answered:
        page.get_by_role("dialog").get_by_role("button", name="Fill by model").click()
    assert answered.value.status == 409  # this school has no model
    expect(page.get_by_text("Set HOMEROOM_LLM_MODEL, and restart the server")).to_be_visible()
