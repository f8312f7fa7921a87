"""The console in a real browser, on a running server: what people do with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect
from tests.console.conftest import sign_in
from tests.support.console_school import (
    ACHIEVEMENTS,
    COMPLETED,
    COURSE_ID,
    COURSE_TITLE,
    HALFWAY,
    ConsoleSchool,
)

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("console")]

PAGES = {
    "Overview": "/console",
    "Alerts": "/console/alerts",
    "Completions": "/console/completions?step=hr&status=failed",
    "Courses": "/console/courses",
    "People": "/console/people",
    "Jobs": "/console/jobs",
    "Queues": "/console/queues",
    "Workers": "/console/workers",
    "Destinations": "/console/destinations",
    "Dispatches": "/console/dispatches",
    "Schedules": "/console/schedules",
    "Messages": "/console/messages",
    "Suppressions": "/console/suppressions",
    "Audit": "/console/audit",
    "Settings": "/console/settings",
    COURSE_TITLE: f"/console/courses/{COURSE_ID}",
    f"Learner {HALFWAY[0]}": f"/console/learners/{HALFWAY[0]}",
    f"{HALFWAY[0]}: {COURSE_TITLE}": f"/console/learners/{HALFWAY[0]}/courses/{COURSE_ID}",
    "There is no such page.": "/console/nowhere",
}


def show(page: Page, address: str, title: str) -> None:
    """Open a page and wait until it has loaded what it shows."""
    page.goto(address)
    expect(page.get_by_role("heading", level=1, name=title, exact=True)).to_be_visible()
    expect(page.get_by_text("Loading…")).to_have_count(0)


def check_looks(page: Page) -> None:
    """Check that a page is accessible in both themes and no wider than a phone."""
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        found = Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    page.set_viewport_size({"width": 320, "height": 640})
    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0


@pytest.mark.parametrize("title", PAGES)
def test_a_page_is_accessible_in_light_and_dark_and_fits_a_phone(
    operator: Page, title: str
) -> None:
    show(operator, PAGES[title], title)
    check_looks(operator)


def test_codes_and_times_of_schedules_are_words(operator: Page) -> None:
    show(operator, "/console/schedules", "Schedules")
    expect(operator.get_by_role("row", name="activity.prune")).to_contain_text(
        "Every day at 03:37, UTC"
    )
    expect(operator.get_by_role("row", name="access.prune")).to_contain_text(
        "Every hour at minute 47, UTC"
    )
    show(operator, "/console/alerts", "Alerts")
    for name, words in (
        ("The disk is almost full", "below 1 GiB"),
        ("Many errors", "above 5%"),
        ("Jobs wait too long", "above 5 min"),
    ):
        expect(operator.get_by_role("row", name=name)).to_contain_text(words)


def test_the_seeds_address_of_the_board_opens_queues(operator: Page) -> None:
    show(operator, "/admin/queues", "Queues")
    expect(operator).to_have_url(re.compile("/console/queues$"))


def test_who_is_not_signed_in_sees_no_data_and_is_told_of_a_wrong_key(
    page: Page, school: ConsoleSchool
) -> None:
    page.goto("/console/jobs")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert COMPLETED[0] not in page.content()
    page.get_by_label("API key").fill("hr_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()


def test_sign_out_ends_the_session(operator: Page) -> None:
    operator.get_by_role("button", name="Sign out").click()
    expect(operator.get_by_role("heading", name="Sign in")).to_be_visible()
    operator.goto("/console/jobs")
    expect(operator.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_viewer_sees_everything_and_no_button_that_changes_anything(
    page: Page, school: ConsoleSchool
) -> None:
    sign_in(page, school.key("viewer"))
    show(page, "/console/jobs?state=failed", "Jobs")
    expect(page.get_by_role("row")).to_have_count(len(COMPLETED) + 1)
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    show(page, "/console/queues", "Queues")
    expect(page.get_by_role("main").get_by_role("button")).to_have_count(0)


def test_what_roles_do_not_allow_is_said_and_not_shown(page: Page, school: ConsoleSchool) -> None:
    sign_in(page, school.key("author"), "Lesson plans")
    page.goto("/console/jobs")
    expect(page.get_by_role("alert")).to_contain_text("Your roles do not allow this.")
    show(page, "/console/courses", "Courses")


def press_until(page: Page, is_there: Callable[[], bool], key: str = "Tab") -> None:
    """Press a key until the focus is where it should be."""
    for _ in range(80):
        if is_there():
            return
        page.keyboard.press(key)
    raise AssertionError("The keyboard does not get there.")


def has_focus(target: Locator) -> bool:
    return bool(target.evaluate("each => each === document.activeElement"))


def test_a_failed_job_is_found_read_and_retried_by_keyboard(
    operator: Page, school: ConsoleSchool
) -> None:
    user_id = COMPLETED[0]
    show(operator, "/console", "Overview")
    link = operator.get_by_role("link", name="Jobs", exact=True)
    press_until(operator, lambda: has_focus(link))
    operator.keyboard.press("Enter")
    expect(operator.get_by_role("heading", level=1, name="Jobs")).to_be_focused()
    search = operator.get_by_label("Id, learner, course or text")
    press_until(operator, lambda: has_focus(search))
    operator.keyboard.type(user_id)
    state = operator.get_by_role("combobox", name="State")
    press_until(operator, lambda: has_focus(state))
    operator.keyboard.type("Failed")
    expect(operator.get_by_role("row")).to_have_count(2)
    expect(operator).to_have_url(re.compile(f"(?=.*q={user_id})(?=.*state=failed)"))
    job = operator.get_by_role("row").nth(1).get_by_role("link").first
    press_until(operator, lambda: has_focus(job))
    operator.keyboard.press("Enter")
    expect(operator.get_by_text("422").first).to_be_visible()
    retry = operator.get_by_role("button", name="Retry")
    press_until(operator, lambda: has_focus(retry))
    operator.keyboard.press("Enter")
    # HR still refuses: the job fails once more, with one attempt more.
    expect(operator.get_by_text("2 of")).to_be_visible()
    school.wait_for_failed(len(COMPLETED))


def refresh_ten_times(page: Page, asked: str) -> None:
    """Have a page read again what it shows; ``asked`` is in the address of a request."""
    for _ in range(10):
        with page.expect_response(lambda answer: asked in answer.url):
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            page.clock.fast_forward(2_000)  # hints are gathered for less


def test_focus_and_selection_survive_ten_refreshes(operator: Page) -> None:
    operator.clock.install()
    show(operator, "/console/jobs?state=failed", "Jobs")
    link = operator.get_by_role("row").nth(3).get_by_role("link").first
    link.focus()
    operator.evaluate(
        "getSelection().selectAllChildren(document.querySelectorAll('tbody tr')[2].cells[1])"
    )
    selected = operator.evaluate("getSelection().toString()")
    assert selected
    refresh_ten_times(operator, "/api/v1/jobs?")
    assert has_focus(link)
    assert operator.evaluate("getSelection().toString()") == selected


def test_a_page_polls_while_the_stream_is_down_and_is_live_again_after_it(operator: Page) -> None:
    expect(operator.get_by_text("Live", exact=True)).to_be_visible()
    operator.route("**/api/v1/events", lambda route: route.abort())
    operator.reload()
    expect(operator.get_by_text("Refreshed every 15 s")).to_be_visible()
    operator.unroute("**/api/v1/events")
    expect(operator.get_by_text("Live", exact=True)).to_be_visible()


def test_why_a_learner_is_at_half_takes_three_clicks(operator: Page) -> None:
    clicks = [
        operator.get_by_role("link", name="Courses", exact=True),
        operator.get_by_role("link", name="Fire safety"),
        operator.get_by_role("link", name=HALFWAY[0]),
    ]
    for click in clicks:
        click.click()
    assert len(clicks) <= 3
    expect(operator.get_by_role("heading", name="Why it is not complete")).to_be_visible()
    expect(operator.get_by_role("listitem").filter(has_text="The exit")).to_be_visible()
    expect(operator.get_by_role("row", name="alarm")).to_be_visible()


def test_the_console_speaks_german(operator: Page) -> None:
    operator.get_by_label("Language").select_option(label="Deutsch")
    expect(operator.get_by_role("heading", level=1, name="Überblick")).to_be_visible()
    assert operator.evaluate("document.documentElement.lang") == "de"
    operator.reload()
    expect(operator.get_by_role("link", name="Warteschlangen")).to_be_visible()


def test_a_queue_is_paused_after_a_question_and_resumed(
    operator: Page, school: ConsoleSchool
) -> None:
    show(operator, "/console/queues", "Queues")
    operator.get_by_role("button", name="Pause: credentials").click()
    operator.get_by_role("dialog").get_by_role("button", name="Pause").click()
    resume = operator.get_by_role("button", name="Resume: credentials")
    expect(resume).to_be_visible()
    [queue] = [q for q in school.client.get("/api/v1/queues").json() if q["name"] == "credentials"]
    assert queue["paused"] is True
    resume.click()
    expect(operator.get_by_role("button", name="Pause: credentials")).to_be_visible()


def test_a_learners_page_shows_what_was_achieved_and_what_is_next(operator: Page) -> None:
    show(operator, f"/console/learners/{COMPLETED[0]}", f"Learner {COMPLETED[0]}")
    first, second = (operator.get_by_role("row", name=title) for title in ACHIEVEMENTS)
    expect(first).to_contain_text("100%")
    expect(first.get_by_role("time")).to_be_visible()
    expect(second).to_contain_text("1 / 2")


def test_a_queue_is_limited_in_a_form_that_axe_accepts(
    operator: Page, school: ConsoleSchool
) -> None:
    def limits() -> dict[str, Any]:
        queues = school.client.get("/api/v1/queues").json()
        return next(each["limits"] for each in queues if each["name"] == "credentials")

    show(operator, "/console/queues", "Queues")
    for typed, kept in (("7", 7), ("", None)):
        operator.get_by_role("button", name="Limit: credentials").click()
        form = operator.get_by_role("dialog", name="Limit: credentials")
        form.get_by_label("Jobs at once in each worker").fill(typed)
        form.get_by_label("Jobs that all workers may start").fill("100" if typed else "")
        form.get_by_label("within seconds").fill("60" if typed else "")
        assert Axe().run(operator).violations_count == 0
        form.get_by_role("button", name="Save").click()
        expect(form).not_to_be_visible()
        assert limits()["concurrency"] == kept
        row = operator.get_by_role("row", name="credentials")
        if typed:
            expect(row).to_contain_text("7 at once · 100 in 60 s")
        else:
            expect(row).not_to_contain_text("100 in 60 s")


# The last test: afterwards HR has what it was owed.


def test_who_was_not_reported_is_found_and_all_retried_in_three_clicks(
    operator: Page, school: ConsoleSchool
) -> None:
    school.accept_hr()
    show(operator, "/console", "Overview")
    row = operator.get_by_role("row", name="hr")
    row.get_by_role("link", name=str(len(COMPLETED))).nth(1).click()
    expect(operator.get_by_role("link", name=COMPLETED[0])).to_be_visible()
    expect(operator.get_by_text("422").first).to_be_visible()
    operator.get_by_role("button", name="Retry all that match").click()
    expect(operator.get_by_role("dialog")).to_contain_text(f"{len(COMPLETED)} steps are tried")
    operator.get_by_role("dialog").get_by_role("button", name="Retry all that match").click()
    expect(operator.get_by_text(f"{len(COMPLETED)} steps are tried again.")).to_be_visible()
    school.wait_for_failed(0)
    show(operator, "/console/completions?step=hr&status=completed", "Completions")
    expect(operator.get_by_role("row")).to_have_count(len(COMPLETED) + 1)
