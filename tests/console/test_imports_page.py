"""People, imports, un-enrolment and the archive in a real browser."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from tests.console.conftest import sign_in
from tests.console.test_console import show
from tests.support.console_school import COURSE_ID, COURSE_TITLE, HALFWAY, ConsoleSchool

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("console")]
FAULTY = "userId;givenName;familyName;email\nimp-1;Imke;Port;\nimp-2;Ivo;;ivo\n"
GOOD = "userId;givenName;familyName;email\nimp-1;Imke;Port;\nimp-2;Ivo;Adam;ivo@school.example\n"


@pytest.fixture
def admin(page: Page, school: ConsoleSchool) -> Page:
    sign_in(page, school.key("admin"))
    return page


def check_accessible(page: Page) -> None:
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.set_viewport_size({"width": 1280, "height": 720})


def choose(page: Page, content: str) -> None:
    file = {"name": "people.csv", "mimeType": "text/csv", "buffer": content.encode()}
    page.get_by_label("CSV file").set_input_files([file])
    page.get_by_role("button", name="Check").click()


def test_faults_are_listed_by_line_and_a_corrected_file_is_imported_and_found(
    admin: Page, school: ConsoleSchool
) -> None:
    show(admin, "/console/imports", "Imports")
    choose(admin, FAULTY)
    expect(admin.get_by_text("2 faults.")).to_be_visible()
    rows = admin.get_by_role("row").all_inner_texts()
    assert [row.split("\t")[:2] for row in rows[1:]] == [["3", "email"], ["3", "familyName"]]
    expect(admin.get_by_role("button", name="Import", exact=True)).to_have_count(0)
    check_accessible(admin)
    choose(admin, GOOD)
    expect(admin.get_by_text("Would add 2, change 0 and leave 0")).to_be_visible()
    assert school.client.get("/api/v1/people/imp-1").status_code == 404
    admin.get_by_role("button", name="Import", exact=True).click()
    expect(admin.get_by_text("Added 2, changed 0, left 0")).to_be_visible()
    show(admin, "/console/people?q=imp-", "People")
    expect(admin.get_by_role("row")).to_have_count(3)
    check_accessible(admin)
    admin.get_by_role("button", name="Suspend: imp-1").click()
    admin.get_by_role("dialog").get_by_role("button", name="Suspend").click()
    admin.get_by_role("button", name="End suspension: imp-1").click()
    expect(admin.get_by_role("button", name="Suspend: imp-1")).to_be_visible()
    admin.get_by_label("Id, name or whole address").fill("ivo adam")
    expect(admin.get_by_role("row")).to_have_count(2)
    admin.get_by_role("link", name="imp-2").click()
    expect(admin.get_by_role("heading", name="Learner imp-2")).to_be_visible()


def test_an_author_imports_enrolments_and_is_offered_nothing_else(
    page: Page, school: ConsoleSchool
) -> None:
    sign_in(page, school.key("author"), "Lesson plans")
    page.get_by_role("link", name="Imports", exact=True).click()
    kinds = page.get_by_label("What the file holds").get_by_role("option")
    expect(kinds).to_have_text(["Enrolments"])
    expect(page.get_by_text("Columns: courseId, userId")).to_be_visible()
    choose(page, f"courseId,userId\n{COURSE_ID},by-author\n")
    expect(page.get_by_text("Would add 1, change 0 and leave 0")).to_be_visible()


def test_a_learner_is_unenrolled_after_a_question_and_enrolled_again(
    admin: Page, school: ConsoleSchool
) -> None:
    user_id = HALFWAY[2]
    show(admin, f"/console/learners/{user_id}/courses/{COURSE_ID}", f"{user_id}: {COURSE_TITLE}")
    admin.get_by_role("button", name="Un-enrol").click()
    admin.get_by_role("dialog").get_by_role("button", name="Un-enrol").click()
    again = admin.get_by_role("button", name="Enrol again")
    expect(again).to_be_visible()
    path = f"/api/v1/courses/{COURSE_ID}/enrolments/{user_id}"
    assert school.client.get(path).json()["endedAt"] is not None
    check_accessible(admin)
    again.click()
    expect(admin.get_by_role("button", name="Un-enrol")).to_be_visible()
    assert school.client.get(path).json()["endedAt"] is None


def test_a_course_is_archived_listed_apart_and_opened_again(admin: Page) -> None:
    show(admin, f"/console/courses/{COURSE_ID}", COURSE_TITLE)
    admin.get_by_role("button", name="Archive").click()
    admin.get_by_role("dialog").get_by_role("button", name="Archive").click()
    expect(admin.get_by_role("button", name="Open again")).to_be_visible()
    show(admin, "/console/courses", "Courses")
    expect(admin.get_by_role("link", name="Fire safety")).to_have_count(0)
    admin.get_by_label("Enrolments").select_option(label="Archived courses")
    admin.get_by_role("link", name="Fire safety").click()
    admin.get_by_role("button", name="Open again").click()
    expect(admin.get_by_role("button", name="Archive")).to_be_visible()


def test_an_operator_searches_people_and_changes_none(page: Page, school: ConsoleSchool) -> None:
    person = {"givenName": "Olga", "familyName": "Kay", "email": "olga@school.example"}
    school.client.put("/api/v1/people/op-1", json=person).raise_for_status()
    sign_in(page, school.key("operator"))
    show(page, "/console/people?q=op-1", "People")
    expect(page.get_by_role("row", name="o***@school.example")).to_be_visible()
    expect(page.get_by_role("button", name="Suspend: op-1")).to_have_count(0)
    show(page, "/console/imports", "Imports")
    expect(page.get_by_role("button", name="Check")).to_be_disabled()
