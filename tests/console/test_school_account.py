"""Sign-in to the console by a school account, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from tests.console.conftest import PATIENCE_MS
from tests.support.homeroom_process import server
from tests.support.identity_provider import SETTINGS, IdentityProvider
from tests.support.missing_server import skip_or_fail
from tools.build_console import DIST, BuildFailed, build_console
from tools.servers.debian import Missing

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("console")]


def no_violations(page: Page) -> bool:
    return not Axe().run(page).response["violations"]


def test_a_manager_signs_in_to_a_page_and_out_and_a_person_without_a_role_is_told(
    browser: Browser, identity_provider: IdentityProvider, tmp_path: Path
) -> None:
    if not (DIST / "index.html").exists():
        try:
            build_console()
        except BuildFailed as failed:
            skip_or_fail(Missing(str(failed)))
    settings = {**SETTINGS, "HOMEROOM_OIDC_ISSUER": identity_provider.issuer}
    with server(tmp_path, settings) as url:
        context = browser.new_context(base_url=url, locale="en-GB")
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto("/console/courses?q=fire")
        link = page.get_by_role("link", name="Sign in with your school account")
        expect(link).to_be_visible()
        expect(page.get_by_label("API key")).to_be_visible()
        assert no_violations(page)
        link.click()
        page.get_by_label("Account").fill("u-max")
        page.get_by_role("button", name="Sign in").click()
        # The cookie of the session is SameSite=Strict: it is sent although another site led here.
        expect(page.get_by_role("heading", level=1, name="Courses")).to_be_visible()
        expect(page).to_have_url(f"{url}/console/courses?q=fire")
        session = page.request.get("/api/v1/session").json()
        assert (session["userId"], session["roles"]) == ("u-max", ["manager"])

        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="Yes").click()  # at the provider
        expect(page).to_have_url(f"{url}/console")
        expect(link).to_be_visible()

        link.click()
        page.get_by_label("Account").fill("u-nil")  # the provider has forgotten the manager
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("main")).to_have_attribute("data-code", "no_role")
        assert no_violations(page)
        page.get_by_role("link", name="Other ways to sign in").click()
        expect(page.get_by_label("API key")).to_be_visible()
        context.close()
