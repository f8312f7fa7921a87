"""Picture every page of the console: ``python -m tests.console.pictures docs``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import expect, sync_playwright
from tests.console.conftest import OPTIONS, sign_in
from tests.console.test_console import PAGES, show
from tests.support.console_school import COURSE_ID, HALFWAY, console_school
from tools.servers.chromium import need_chromium

SIZE = {"width": 1120, "height": 640}
NAMES = {
    COURSE_ID: "course",
    f"Learner {HALFWAY[0]}": "learner",
    f"{HALFWAY[0]}: {COURSE_ID}": "learner-course",
}
"""The pictures of pages whose title names a record."""


def picture_name(title: str) -> str:
    """Return the file name of a page's picture."""
    return f"console-{NAMES.get(title, title.lower())}.png"


def pictured() -> list[str]:
    """Return the titles of the pages that have a picture, and of one job."""
    return [title for title in PAGES if not title.endswith(".")] + ["Job"]


def main(target: Path) -> None:
    """Write the pictures."""
    with (
        tempfile.TemporaryDirectory() as folder,
        console_school(Path(folder)) as school,
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
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
