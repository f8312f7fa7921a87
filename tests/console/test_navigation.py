"""Where the focus goes when links are followed, dialogs close and pages are read again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.console.conftest import sign_in
from tests.console.test_console import (
    check_looks,
    has_focus,
    press_until,
    refresh_ten_times,
    show,
)
from tests.console.test_people_pages import PROGRAMME, lesson_address
from tests.support.console_school import COMPLETED, COURSE_ID, HALFWAY, ConsoleSchool
from tests.support.people_school import PROGRAMME_ID, PeopleSchool

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("console")]


@pytest.fixture
def admin(page: Page, school: ConsoleSchool) -> Page:
    sign_in(page, school.key("admin"))
    return page


def press(page: Page, target: Locator) -> None:
    """Go to a control by keyboard, and press Enter."""
    expect(target).to_be_visible()
    press_until(page, lambda: has_focus(target))
    page.keyboard.press("Enter")


def title_of(name: str) -> str:
    """Return the title of the window of a page."""
    return f"{name} \N{EN DASH} Homeroom"


def check_heading(page: Page, name: str) -> None:
    """Check that a page's heading has the focus and names the window."""
    heading = page.get_by_role("heading", level=1, name=name, exact=True)
    expect(heading).to_be_focused()
    expect(page).to_have_title(title_of(name))


def test_a_link_in_a_page_gives_the_focus_to_the_heading_of_the_next(operator: Page) -> None:
    check_heading(operator, "Overview")  # after the sign-in, too
    press(operator, operator.get_by_role("link", name="Courses", exact=True))
    check_heading(operator, "Courses")
    press(operator, operator.get_by_role("link", name="Fire safety"))
    check_heading(operator, "Fire safety")
    press(operator, operator.get_by_role("link", name=HALFWAY[0]))
    check_heading(operator, f"{HALFWAY[0]}: Fire safety")
    operator.go_back()
    check_heading(operator, "Fire safety")


def test_a_link_to_the_same_kind_of_page_moves_the_focus_and_a_field_keeps_its_own(
    admin: Page, people: PeopleSchool
) -> None:
    admin.goto(lesson_address(people, 0))
    title = admin.get_by_role("heading", level=1)
    expect(title).to_contain_text("1.1 ")
    press(admin, admin.get_by_role("link", name="Next lesson"))
    expect(title).to_contain_text("1.2 ")
    expect(title).to_be_focused()
    admin.goto(f"/console/plans/{people.plan_id}")
    admin.get_by_text(re.compile(r"places are open")).click()
    press(admin, admin.get_by_role("link", name="1.2 ").first)
    expect(admin.locator("textarea:focus")).to_have_value(re.compile(r"\[add: "))


def test_a_filter_leaves_the_focus_in_its_field(admin: Page) -> None:
    show(admin, "/console/people", "People")
    field = admin.get_by_label("Id, name or whole address")
    field.fill("nothing of the kind")
    expect(admin.get_by_text("No person matches.")).to_be_visible()
    assert has_focus(field)


REFRESHED = [
    ("/console/alerts", "/api/v1/alerts?", "main select"),
    ("/console/people", "/api/v1/people?", "tbody tr a"),
    (PROGRAMME, "/weeks", "tbody tr button"),
    ("/console/team", "/api/v1/team?", "tbody tr a"),
    ("/console/plans", "/api/v3/workflow?", "tbody tr a"),
    (f"/console/courses/{COURSE_ID}", "/learners?", "tbody tr a"),
    ("/console/logs", "/api/v1/log-obligations?", "tbody tr a"),
    ("/console/imports", "/api/v1/events", "main select"),
]
"""Pages, what each asks for again, and something in it that has the focus."""


@pytest.mark.parametrize(("address", "asked", "target"), REFRESHED)
def test_focus_and_selection_survive_ten_refreshes_of_each_page(
    page: Page, people: PeopleSchool, address: str, asked: str, target: str
) -> None:
    page.clock.install()
    user_id = "ada" if address == "/console/logs" else "mara"
    page.goto(f"/sign-in?next={address}#{people.token(user_id, 'admin', 'facilitator', 'manager')}")
    focused = page.locator(target).first
    focused.focus()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
    selected = page.evaluate("getSelection().toString()")
    assert selected
    refresh_ten_times(page, asked)
    assert has_focus(focused)
    assert page.evaluate("getSelection().toString()") == selected


def test_a_dialog_that_closes_gives_the_focus_back(admin: Page, people: PeopleSchool) -> None:
    del people
    for address, name, dismiss in (
        ("/console/people", "Suspend: ada", "Escape"),
        ("/console/schedules", f"Run now: reminder.{PROGRAMME_ID}", "Do nothing"),
        ("/console/queues", "Limit: credentials", "Escape"),
        (f"/console/courses/{COURSE_ID}", "Archive", "Do nothing"),
    ):
        admin.goto(address)
        button = admin.get_by_role("button", name=name)
        press(admin, button)
        dialog = admin.get_by_role("dialog")
        expect(dialog).to_be_visible()
        if dismiss == "Escape":
            admin.keyboard.press("Escape")
        else:
            dialog.get_by_role("button", name=dismiss).click()
        expect(dialog).not_to_be_visible()
        expect(button).to_be_focused()


def test_a_phone_has_one_button_for_sections_and_a_card_for_each_row(
    page: Page, people: PeopleSchool
) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(f"/sign-in?next=/console/team#{people.token('mara', 'manager')}")
    row = page.get_by_role("row").filter(has_text="Cem Aydin")
    # Each cell is in sight, and a table is still one for a screen reader.
    for cell in (row.get_by_role("rowheader"), *row.get_by_role("cell").all()):
        expect(cell).to_be_in_viewport()
    link = page.get_by_role("link", name="Lesson plans")
    expect(link).to_be_hidden()
    menu = page.get_by_role("button", name="Menu")
    expect(menu).to_have_attribute("aria-expanded", "false")
    menu.click()
    check_looks(page)
    link.click()
    check_heading(page, "Lesson plans")
    expect(link).to_be_hidden()


def test_titles_of_windows_name_their_pages(admin: Page, people: PeopleSchool) -> None:
    for address, title in (
        ("/console/logs", "My logs"),
        ("/console/programmes", "Programmes"),
        (PROGRAMME, "Data lab"),
        ("/console/plans", "Lesson plans"),
        (f"/console/plans/{people.plan_id}", "Bread for beginners"),
        ("/console/alerts", "Alerts"),
        ("/console/people", "People"),
        ("/console/imports", "Imports"),
        (f"/console/learners/{COMPLETED[0]}", f"Learner {COMPLETED[0]}"),
    ):
        admin.goto(address)
        expect(admin).to_have_title(title_of(title))
