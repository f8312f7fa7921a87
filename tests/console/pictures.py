"""Picture every page of the console: ``python -m tests.console.pictures docs``."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from playwright.sync_api import Browser, expect, sync_playwright
from tests.console.conftest import OPTIONS, sign_in
from tests.console.test_console import PAGES, show
from tests.support.console_school import COURSE_TITLE, HALFWAY, ConsoleSchool, console_school
from tests.support.homeroom_process import ADMIN, server
from tests.support.people_school import PROGRAMME_ID, add_people
from tools.servers.chromium import need_chromium

FIRST_AID = {
    "title": "First aid",
    "units": [{"id": "u", "title": "Unit", "chapters": [{"id": "bandages", "title": "Bandages"}]}],
}
SIZE = {"width": 1120, "height": 640}
NAMES = {
    COURSE_TITLE: "course",
    f"Learner {HALFWAY[0]}": "learner",
    f"{HALFWAY[0]}: {COURSE_TITLE}": "learner-course",
}
"""The pictures of pages whose title names a record."""


def picture_name(title: str) -> str:
    """Return the file name of a page's picture."""
    return f"console-{NAMES.get(title, title.lower())}.png"


def pictured() -> list[str]:
    """Return the titles of the pages that have a picture, and of one job."""
    return [title for title in PAGES if not title.endswith(".")] + ["Job"]


def picture_people(browser: Browser, school: ConsoleSchool, target: Path) -> None:
    """Write the pictures of facilitators', managers' and authors' pages."""
    people = add_people(school)
    plan = people.get(f"/api/v3/workflow/{people.plan_id}/step10")["data"]
    lesson = f"/console/plans/{people.plan_id}/lessons/{plan['modules'][0]['lessons'][0]['id']}"
    log = f"/console/logs?programme={PROGRAMME_ID}&week={people.week}"
    for name, user_id, role, address in (
        ("my-logs", "ada", "facilitator", log),
        ("programmes", "mara", "manager", f"/console/programmes/{PROGRAMME_ID}"),
        ("my-team", "mara", "manager", "/console/team"),
        ("imports", "ida", "author", "/console/imports"),
        ("lesson-plans", "ida", "author", "/console/plans"),
        ("plan", "ida", "author", f"/console/plans/{people.plan_id}"),
        ("lesson", "ida", "author", lesson),
    ):
        page = browser.new_context(
            base_url=school.url, viewport=SIZE, locale="en-GB", timezone_id="Europe/Berlin"
        ).new_page()
        page.goto(f"/sign-in#{people.token(user_id, role)}")
        page.get_by_role("navigation").wait_for()
        page.goto(address)
        expect(page.get_by_role("main").get_by_role("heading").first).to_be_visible()
        expect(page.get_by_text("Loading…")).to_have_count(0)
        page.screenshot(path=target / f"console-{name}.png")
        page.context.close()


def teach_for_an_hour(folder: Path) -> None:
    """Let learners take a course in the hour before, so that charts have something to show.

    A server is started for each five minutes, with its clock moved back to them.
    """
    for part in range(12):
        began = datetime.now(UTC) - timedelta(minutes=60 - 5 * part)
        clock = {"HOMEROOM_TEST_CLOCK": began.isoformat()}
        with server(folder, clock) as url, httpx.Client(base_url=url, headers=ADMIN) as client:
            client.put("/api/v1/courses/first-aid", json=FIRST_AID).raise_for_status()
            for learner in range(8 + 7 * (part % 4)):
                event = {
                    "id": f"first-aid-{part}-{learner}",
                    "userId": f"learner-{10 + learner}",
                    "courseId": "first-aid",
                    "chapterId": "bandages",
                    "eventType": "chapter_progress",
                    "progress": 5 + 6 * part,
                    "timeSpent": 60,
                    "timestamp": int(began.timestamp() * 1_000),
                }
                body = {"events": [event]}
                client.post("/api/progress/enhanced-update", json=body).raise_for_status()


def main(target: Path) -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        teach_for_an_hour(Path(folder))
        picture_all(Path(folder), target)


def picture_all(folder: Path, target: Path) -> None:
    """Write the pictures of a school that is served from a folder."""
    with (
        console_school(folder) as school,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=need_chromium(), args=OPTIONS)
        page = browser.new_context(
            base_url=school.url, viewport=SIZE, locale="en-GB", timezone_id="Europe/Berlin"
        ).new_page()
        sign_in(page, school.key("operator"))
        for title in pictured()[:-1]:
            show(page, PAGES[title], title)
            expect(page.get_by_text("Live", exact=True)).to_be_visible()
            page.screenshot(path=target / picture_name(title))
        page.goto(f"/console/jobs/{school.jobs('failed')[0]['id']}")
        expect(page.get_by_role("heading", name="Attempts")).to_be_visible()
        page.screenshot(path=target / picture_name("Job"))
        picture_people(browser, school, target)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
