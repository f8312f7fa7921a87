"""A school with faults, and Debian's Chromium to look at its console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.support.console_school import ConsoleSchool, console_school
from tests.support.missing_server import skip_or_fail
from tests.support.people_school import PeopleSchool, add_people
from tools.build_console import DIST, BuildFailed, build_console
from tools.servers.chromium import need_chromium
from tools.servers.debian import Missing

PATIENCE_MS = 60_000
"""What a page may take on a busy machine; Playwright's own 5 s are for an idle one."""
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def school(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleSchool]:
    """Return a school in which HR refused every message, with a built console."""
    if not (DIST / "index.html").exists():  # `make test` has built it
        try:
            build_console()
        except BuildFailed as failed:
            skip_or_fail(Missing(str(failed)))
    with console_school(tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture(scope="session")
def people(school: ConsoleSchool) -> PeopleSchool:
    """Return the school with people, programmes and a lesson plan."""
    return add_people(school)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return Chromium without a window.

    Not for the session: while it runs, Playwright's loop runs in this thread, and no other test
    can run one.
    """
    try:
        program: Path = need_chromium()
    except Missing as missing:
        skip_or_fail(missing)
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE_MS)
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, school: ConsoleSchool) -> Iterator[Page]:
    """Return a page of an operator; errors of scripts and of the page's policy fail the test."""
    context = browser.new_context(base_url=school.url, locale="en-GB", timezone_id="Europe/Berlin")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda message: (
            errors.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def operator(page: Page, school: ConsoleSchool) -> Page:
    """Return the page with an operator signed in by a key, as one types it."""
    sign_in(page, school.key("operator"))
    return page


def sign_in(page: Page, key: str, first: str = "Overview") -> None:
    """Open the console and enter a key or a token; ``first`` is the page of its roles."""
    page.goto("/")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name=first, exact=True).wait_for()
