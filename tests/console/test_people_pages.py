"""The console of facilitators, managers and authors, in a real browser on a running server."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Response, expect
from tests.console.test_console import check_looks, has_focus, press_until, show
from tests.support.people_school import PROGRAMME_ID, PeopleSchool

from homeroom.activity.api import parse_week

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("console")]
NAVIGATION = {
    "facilitator": ["My logs", "Lesson plans"],
    "manager": ["Programmes", "My team", "Lesson plans"],
    "author": ["Lesson plans", "Courses", "Imports"],
}
PROGRAMME = f"/console/programmes/{PROGRAMME_ID}"


SignIn = Callable[..., Page]


@pytest.fixture
def sign_in_as(page: Page, people: PeopleSchool) -> SignIn:
    """Return a function that signs a person in by the link of the school's platform."""

    def sign_in_as(user_id: str, role: str, address: str = "/console") -> Page:
        page.goto(f"/sign-in?next={address}#{people.token(user_id, role)}")
        page.locator("#main").wait_for()
        return page

    return sign_in_as


def day_of(week: str, weekday: int) -> str:
    return parse_week(week).day(weekday).isoformat()


def lesson_address(people: PeopleSchool, number: int) -> str:
    plan = people.get(f"/api/v3/workflow/{people.plan_id}/step10")["data"]
    lesson = plan["modules"][0]["lessons"][number]
    return f"/console/plans/{people.plan_id}/lessons/{lesson['id']}"


def logs_of(people: PeopleSchool, **query: str) -> list[dict[str, Any]]:
    return list(people.get("/api/v1/activity-logs", **query)["items"])


@pytest.mark.parametrize("role", NAVIGATION)
def test_each_role_begins_at_its_work_and_sees_its_own_navigation(
    sign_in_as: SignIn, role: str
) -> None:
    page = sign_in_as("mara" if role == "manager" else "ada", role)
    links = page.get_by_role("navigation").get_by_role("link")
    expect(links).to_have_text(NAVIGATION[role])
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Overview")
    page.goto("/console/jobs")
    expect(page.get_by_role("alert")).to_contain_text("Your roles do not allow this.")


def test_pages_of_people_are_accessible_and_fit_a_phone(
    sign_in_as: SignIn, people: PeopleSchool
) -> None:
    week = people.week
    pages = [
        ("ada", "facilitator", f"/console/logs?programme={PROGRAMME_ID}&week={week}", "Hand in"),
        ("mara", "manager", f"{PROGRAMME}?offering=stats&cell={week}", "Add an exemption"),
        ("ida", "author", "/console/plans", "Bread for beginners"),
        ("ida", "author", f"/console/plans/{people.plan_id}", "Export"),
        ("ida", "author", lesson_address(people, 0), "Save"),
        ("otto", "viewer", "/console/programmes", "Data lab"),
    ]
    for user_id, role, address, word in pages:
        page = sign_in_as(user_id, role)
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(address)
        control = page.get_by_role("button", name=word, exact=True)
        expect(control.or_(page.get_by_role("link", name=word, exact=True)).first).to_be_visible()
        expect(page.get_by_text("Loading…")).to_have_count(0)
        check_looks(page)
        page.context.clear_cookies()


def test_this_weeks_log_is_handed_in_from_the_mail_by_two_clicks_and_the_form(
    sign_in_as: SignIn, people: PeopleSchool
) -> None:
    page = sign_in_as("ada", "facilitator")
    expect(page.get_by_role("heading", level=1, name="My logs")).to_be_visible()
    # The first click, in the mail: its link is tested in tests/unit/notify/test_school.py.
    page.goto(f"/console/logs?programme={PROGRAMME_ID}&week={people.week}")
    form = page.get_by_role("region", name="Statistics")
    form.get_by_label("Date").fill(day_of(people.week, 1))
    form.get_by_label("Present").fill("11")
    form.get_by_label("Expected").fill("12")
    form.get_by_label("Notes").fill("All went well.")
    form.get_by_role("button", name="Hand in").click()  # the second
    expect(page.get_by_text("Statistics: the log is handed in.")).to_be_visible()
    expect(form).to_have_count(0)
    [log] = logs_of(people, offeringId="stats", week=people.week)
    assert (log["status"], log["notes"], log["facilitatorId"]) == (
        "submitted",
        "All went well.",
        "ada",
    )
    assert log["attendance"] == [{"heldOn": day_of(people.week, 1), "present": 11, "expected": 12}]
    # What was handed in is changed on the same page; the time of handing in stays.
    page.get_by_role("link", name=f"Change: Statistics, {people.week}").click()
    form.get_by_label("Notes").fill("All went very well.")
    form.get_by_role("button", name="Save changes").click()
    expect(form).to_have_count(0)
    [changed] = logs_of(people, offeringId="stats", week=people.week)
    assert (changed["notes"], changed["submittedAt"]) == (
        "All went very well.",
        log["submittedAt"],
    )


def test_the_words_of_the_validators_stand_at_their_fields_of_a_log(
    sign_in_as: SignIn, people: PeopleSchool
) -> None:
    week = parse_week(people.week).shifted(-1).key
    address = f"/console/logs?programme={PROGRAMME_ID}&week={week}"
    page = sign_in_as("ada", "facilitator")
    page.goto(address)
    form = page.get_by_role("region", name="Statistics")
    form.get_by_label("Date").fill(day_of(people.week, 1))
    form.get_by_label("Present").fill("3")
    form.get_by_role("button", name="Add grading").click()
    form.get_by_label("What is graded").fill("Essays")
    form.get_by_role("button", name="Save as a draft").click()
    date = form.get_by_label("Date")
    expect(date).to_have_attribute("aria-invalid", "true")
    expect(date).to_have_accessible_description(re.compile(f"this log is of {week}"))
    expect(date).to_be_focused()
    date.fill(day_of(week, 2))
    form.get_by_role("button", name="Save as a draft").click()
    expect(page.get_by_text("the draft is saved. It is not handed in yet.")).to_be_visible()
    [log] = logs_of(people, offeringId="stats", week=week)
    assert (log["status"], log["grading"]) == ("draft", {"Essays": "pending"})
    page.goto(address)  # the draft is there again
    expect(form.get_by_label("Present")).to_have_value("3")
    form.get_by_role("button", name="Delete this log").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete this log").click()
    expect(form.get_by_label("Present")).to_have_value("")
    assert logs_of(people, offeringId="stats", week=week) == []


def test_what_goes_out_on_thursday_and_to_whom_takes_one_click(sign_in_as: SignIn) -> None:
    page = sign_in_as("mara", "manager", "/console/plans")
    page.get_by_role("link", name="Programmes", exact=True).click()
    warning = page.get_by_role("region", name="Warning before the deadline")
    expect(warning.locator("time").first).to_be_visible()
    expect(warning.get_by_role("listitem").filter(has_text="Ben Li")).to_contain_text("E-mail")


def test_a_manager_enters_a_missed_week_with_a_reason(
    sign_in_as: SignIn, people: PeopleSchool
) -> None:
    week = parse_week(people.week).shifted(-2).key
    page = sign_in_as("mara", "manager", PROGRAMME)
    row = page.get_by_role("row").filter(has_text="Databases")
    missed = row.get_by_role("button", name="Missed")
    press_until(page, lambda: has_focus(missed.nth(1)))
    page.keyboard.press("Enter")
    form = page.get_by_role("region", name="Databases")
    expect(form.get_by_role("heading")).to_be_focused()
    form.get_by_label("Notes").fill("By telephone.")
    form.get_by_role("button", name="Hand in").click()
    reason = form.get_by_label("Why it is late")
    expect(reason).to_be_focused()
    expect(reason).to_have_accessible_description(re.compile("required of a manager"))
    reason.fill("Ben was in hospital.")
    form.get_by_role("button", name="Hand in").click()
    expect(form.get_by_text("Ben was in hospital.")).to_be_visible()
    late = row.get_by_role("button", name="Late")
    expect(late).to_have_count(1)
    form.get_by_role("button", name="Close").click()
    expect(late).to_be_focused()
    [log] = logs_of(people, offeringId="sql", week=week)
    assert (log["facilitatorId"], log["late"], log["lateReason"]) == (
        "ben",
        True,
        "Ben was in hospital.",
    )
    [entry] = people.get("/api/v1/audit", action="activity_log.entered")["items"]
    assert (entry["actor"], entry["subject"]) == ("mara", log["id"])


def test_a_manager_adds_and_removes_an_exemption(sign_in_as: SignIn, people: PeopleSchool) -> None:
    page = sign_in_as("mara", "manager", PROGRAMME)
    form = page.get_by_role("form", name="Add an exemption")
    form.get_by_label("For").select_option(label="Ben Li")
    form.get_by_label("From").fill(day_of(people.week, 1))
    form.get_by_role("button", name="Add an exemption").click()
    until = form.get_by_label("To", exact=True)
    expect(until).to_have_attribute("aria-invalid", "true")
    until.fill(day_of(people.week, 7))
    form.get_by_role("button", name="Add an exemption").click()
    row = page.get_by_role("row").filter(has_text="Databases")
    expect(row.get_by_role("button", name="Exempt")).to_be_visible()
    expect(page.get_by_role("region", name="Warning before").get_by_text("Ben Li")).to_have_count(1)
    page.get_by_role("button", name="Remove: Ben Li").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(row.get_by_role("button", name="Exempt")).to_have_count(0)
    assert people.get(f"/api/v1/programmes/{PROGRAMME_ID}/exemptions") == []


def test_a_manager_of_another_programme_sees_nothing_of_this_one(sign_in_as: SignIn) -> None:
    page = sign_in_as("otto", "manager")
    expect(page.get_by_role("heading", level=1, name="Law")).to_be_visible()
    page.goto(PROGRAMME)
    expect(page.get_by_role("alert").first).to_be_visible()
    expect(page.get_by_text("Ada Okafor")).to_have_count(0)


def test_a_lesson_is_fixed_and_exported_in_four_clicks(
    sign_in_as: SignIn, people: PeopleSchool
) -> None:
    page = sign_in_as("ida", "author")
    page.get_by_role("link", name="Bread for beginners").click()  # 1
    page.get_by_role("link", name="Name three kinds of flour").click()  # 2
    form = page.get_by_role("form", name="Change the lesson")
    form.get_by_role("textbox", name="Key points 1").fill("Wheat, rye and spelt")
    form.get_by_role("button", name="Save").click()  # 3
    expect(form.get_by_role("status").filter(has_text="Saved.")).to_be_visible()
    printed = page.get_by_role("region", name="As it prints")
    expect(printed.get_by_text("Wheat, rye and spelt")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Export").click()  # 4
    assert download.value.suggested_filename.endswith(".pdf")


def test_a_lesson_shows_the_words_of_its_validators_and_is_written_again_by_part(
    sign_in_as: SignIn, people: PeopleSchool
) -> None:
    page = sign_in_as("ida", "author", lesson_address(people, 1))
    form = page.get_by_role("form", name="Change the lesson")
    minutes = form.get_by_role("group", name="Activities 1").get_by_label("Minutes")
    minutes.fill("0")
    form.get_by_role("button", name="Save").click()
    expect(minutes).to_have_attribute("aria-invalid", "true")
    expect(minutes).to_be_focused()
    form.get_by_role("button", name="Undo all").click()
    point = form.get_by_role("textbox", name="Key points 1")
    written = point.input_value()
    point.fill("Changed by a person")
    form.get_by_role("button", name="Save").click()
    expect(page.get_by_role("listitem").filter(has_text="Changed by a person")).to_be_visible()
    form.get_by_role("button", name="Write again: Key points").click()
    page.get_by_role("dialog").get_by_role("button", name="Write again").click()
    expect(point).to_have_value(written)


def test_open_places_are_a_list_that_leads_to_their_fields(
    sign_in_as: SignIn, people: PeopleSchool
) -> None:
    page = sign_in_as("ida", "author", f"/console/plans/{people.plan_id}")
    page.get_by_text(re.compile(r"\d+ places are open")).click()
    page.get_by_role("link", name="1.2 ").first.click()
    focused = page.locator("textarea:focus")
    expect(focused).to_have_value(re.compile(r"\[add: "))


def test_a_plan_shows_its_progress_while_its_lessons_are_written(
    sign_in_as: SignIn, people: PeopleSchool
) -> None:
    curriculum = people.get(f"/api/v3/workflow/{people.plan_id}")
    body = {
        **{key: curriculum[key] for key in ("locale", "modules")},
        "title": "More bread",
    }
    body["modules"] = [
        {
            "id": f"m{number}",
            "title": f"Module {number}",
            "contactHours": 2,
            "outcomes": [{"id": f"o{number}", "text": f"Bake bread of kind {number}"}],
        }
        for number in range(3)
    ]
    made = people.school.client.post("/api/v3/workflow", json=body).raise_for_status().json()
    page = sign_in_as("ida", "author", f"/console/plans/{made['workflowId']}")
    expect(page.get_by_text("0 / 3")).to_be_visible()
    page.get_by_role("button", name="Write the lessons").click()
    expect(page.get_by_text("3 / 3")).to_be_visible()
    expect(page.get_by_text("Complete")).to_be_visible()


def test_a_manager_sees_who_of_the_team_is_behind(page: Page, sign_in_as: SignIn) -> None:
    sign_in_as("mara", "manager", "/console/team")
    rows = page.get_by_role("row")
    expect(rows).to_have_count(4)
    expect(rows.filter(has_text="Ada Okafor")).to_contain_text("Missed logs: ")
    expect(rows.filter(has_text="Otto Kern")).to_have_count(0)
    reports = rows.filter(has_text="Cem Aydin")
    expect(reports).to_contain_text("Reports to you")
    page.get_by_role("combobox", name="Progress").select_option(label="Behind")
    expect(rows).to_have_count(3)
    expect(page).to_have_url(re.compile("show=behind"))
    page.reload()
    expect(rows).to_have_count(3)
    check_looks(page)


def test_the_pages_of_people_speak_german(sign_in_as: SignIn) -> None:
    page = sign_in_as("ada", "facilitator")
    language: Locator = page.get_by_label("Language")
    language.select_option(label="Deutsch")
    expect(page.get_by_role("heading", level=1, name="Meine Wochenberichte")).to_be_visible()
    show(page, "/console/plans", "Unterrichtspläne")


def test_the_first_load_is_small_and_brings_no_page_of_other_roles(page: Page) -> None:
    loaded: dict[str, int] = {}

    def measure(answer: Response) -> None:
        if "/console/assets/" in answer.url:
            loaded[answer.url] = len(gzip.compress(answer.body()))

    page.on("response", measure)
    page.goto("/")
    page.get_by_role("heading", name="Sign in").wait_for()
    assert loaded
    assert sum(loaded.values()) < 160_000
    assert not [url for url in loaded if "LogsPage" in url or "LessonPage" in url]
