"""Sign-in by the accounts of a school, at an independent identity provider."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tests.support.condition import until
from tests.support.homeroom_process import ADMIN, CommandLine, server
from tests.support.identity_provider import SETTINGS, IdentityProvider, running_provider

from homeroom.access.store import find_session
from homeroom.bootstrap.school_accounts import build_school_sign_in
from homeroom.db.database import Database
from homeroom.db.sqlite.database import SqliteDatabase
from homeroom.identity import Role
from homeroom.settings import load

pytestmark = [pytest.mark.service, pytest.mark.xdist_group("school-accounts")]


@dataclass
class School:
    """A server with the log of its process, and the provider of its accounts."""

    url: str
    log: Path
    provider: IdentityProvider

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.url, timeout=30) as browser:
            yield browser

    def begin(self, browser: httpx.Client, next_path: str = "/console") -> str:
        """Begin a sign-in and return the address at the provider."""
        begun = browser.get("/sign-in/oidc", params={"next": next_path})
        assert begun.status_code == 303, begun.text
        return str(begun.headers["location"])

    def callback(self, browser: httpx.Client, account: str | None) -> str:
        """Sign in at the provider and return the address to which it sends the browser back."""
        answer = self.provider.sign_in(browser, self.begin(browser), account)
        return str(answer.headers["location"])


@contextmanager
def school_of(folder: Path, provider: IdentityProvider, **settings: str) -> Iterator[School]:
    own = {**SETTINGS, "HOMEROOM_OIDC_ISSUER": provider.issuer, **settings}
    with server(folder, {"HOMEROOM_LOG_LEVEL": "debug", **own}) as url:
        yield School(url, folder / "serve.log", provider)


@pytest.fixture(scope="module")
def school(
    tmp_path_factory: pytest.TempPathFactory, identity_provider: IdentityProvider
) -> Iterator[School]:
    with school_of(tmp_path_factory.mktemp("school"), identity_provider) as running:
        yield running


def failure_of(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the code of a page that shows why there is no session."""
    assert answer.headers["content-type"].startswith("text/html")
    assert "set-cookie" not in answer.headers or "homeroom_session" not in str(answer.headers)
    found = re.search(r'data-code="(\w+)"', answer.text)
    assert found is not None, answer.text
    return answer.status_code, found[1]


@pytest.mark.parametrize(("account", "role"), [("u-fay", "facilitator"), ("u-max", "manager")])
def test_a_school_account_opens_a_session_of_its_person(
    school: School, account: str, role: str
) -> None:
    with school.browser() as browser:
        methods = browser.get("/api/v1/sign-in").json()
        url = school.begin(browser, "/console/programmes?week=2026-W49")
        asked = httpx.URL(url).params
        assert asked["code_challenge_method"] == "S256"
        assert asked["response_type"] == "code"
        back = school.provider.sign_in(browser, url, account)
        opened = browser.get(back.headers["location"])
        assert (opened.status_code, opened.headers["location"]) == (
            303,
            "/console/programmes?week=2026-W49",
        )
        [session] = [
            each for each in opened.headers.get_list("set-cookie") if "homeroom_session=" in each
        ]
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(session.split("; "))
        assert not [each.name for each in browser.cookies.jar if "oidc" in each.name]
        assert browser.get("/api/v1/session").json() == {
            "name": account,
            "userId": account,
            "roles": [role],
            "signOutPath": "/sign-in/oidc/sign-out",
        }
        assert methods == {"schoolAccountPath": "/sign-in/oidc"}

        assert browser.delete("/api/v1/session").status_code == 204
        assert browser.get("/api/v1/session").status_code == 401
        left = httpx.URL(browser.get("/sign-in/oidc/sign-out").headers["location"])
        assert str(left).startswith(f"{school.provider.issuer}/session/end?")
        assert left.params["post_logout_redirect_uri"] == f"{school.url}/console"
    trail = httpx.get(f"{school.url}/api/v1/audit", params={"actor": account}, headers=ADMIN)
    assert trail.json()["items"][0]["details"] == {"by": "oidc"}


def test_a_person_without_a_role_or_who_cancels_gets_a_page_and_no_session(
    school: School,
) -> None:
    with school.browser() as browser:
        answer = browser.get(
            school.callback(browser, "u-nil"), headers={"Accept-Language": "de-AT"}
        )
        assert failure_of(answer) == (403, "no_role")
        assert '<html lang="de">' in answer.text
        assert browser.get("/api/v1/session").status_code == 401
    with school.browser() as browser:
        answer = browser.get(school.callback(browser, None))
        assert failure_of(answer) == (403, "denied")
        assert 'href="/sign-in/oidc?next=%2Fconsole"' in answer.text


def test_a_state_that_this_browser_has_not_begun_is_refused(school: School) -> None:
    with school.browser() as browser, school.browser() as victim:
        stolen = school.callback(browser, "u-max")
        assert failure_of(victim.get(stolen)) == (400, "unknown_state")
        school.begin(victim)
        assert failure_of(victim.get(stolen)) == (400, "unknown_state")
        # The cookie of this browser, but of another sign-in.
        altered = httpx.URL(stolen).copy_set_param("state", "x" * 43)
        assert failure_of(browser.get(altered)) == (400, "unknown_state")
        assert failure_of(browser.get("/sign-in/oidc/callback")) == (400, "unknown_state")


def test_a_code_works_once(school: School) -> None:
    with school.browser() as browser:
        url = school.callback(browser, "u-fay")
        kept = {each.name: each.value for each in browser.cookies.jar if "oidc" in each.name}
        assert len(kept) == 1
        assert browser.get(url).status_code == 303
        assert failure_of(browser.get(url)) == (400, "unknown_state")
        cookie = "; ".join(f"{name}={value}" for name, value in kept.items())
        again = httpx.get(url, headers={"Cookie": cookie})
        assert failure_of(again) == (400, "code_refused")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"nonce": "another"}, (502, "token_invalid")),
        ({"verifier": "v" * 64}, (400, "code_refused")),
        ({"state": "another"}, (400, "unknown_state")),
    ],
)
def test_a_sign_in_with_other_secrets_than_its_own_is_refused(
    school: School, changed: dict[str, str], expected: tuple[int, str]
) -> None:
    with school.browser() as browser:
        url = school.callback(browser, "u-fay")
        [cookie] = [each for each in browser.cookies.jar if "oidc" in each.name]
        assert cookie.value is not None
        pending = json.loads(base64.urlsafe_b64decode(cookie.value + "=="))
        forged = base64.urlsafe_b64encode(json.dumps({**pending, **changed}).encode()).decode()
    answer = httpx.get(url, headers={"Cookie": f"{cookie.name}={forged.rstrip('=')}"})
    assert failure_of(answer) == expected


def test_only_pages_of_the_console_are_opened_afterwards(school: School) -> None:
    with school.browser() as browser:
        for elsewhere in (
            "https://evil.example/",
            "//evil.example",
            "/console/../docs",
            "/consolex",
        ):
            url = school.begin(browser, elsewhere)
            back = school.provider.sign_in(browser, url, "u-fay").headers["location"]
            assert browser.get(back).headers["location"] == "/console", elsewhere


def test_keys_that_the_provider_has_changed_are_fetched(school: School) -> None:
    with school.browser() as browser:
        assert browser.get(school.callback(browser, "u-fay")).status_code == 303
    school.provider.order(rotate=True)
    with school.browser() as browser:
        assert browser.get(school.callback(browser, "u-fay")).status_code == 303


def test_a_provider_whose_clock_is_wrong_is_named_as_that(school: School) -> None:
    school.provider.order(shiftSeconds=-1_200)
    try:
        with school.browser() as browser:
            answer = browser.get(school.callback(browser, "u-fay"))
    finally:
        school.provider.order(shiftSeconds=0)
    assert failure_of(answer) == (502, "clocks_differ")


def test_a_sign_out_at_the_provider_ends_the_sessions_here(school: School) -> None:
    path = "/sign-in/oidc/back-channel-logout"
    try:
        school.provider.order(logoutUri=f"{school.url}{path}")
        with ExitStack() as stack:
            first, second, third, other = (stack.enter_context(school.browser()) for _ in range(4))
            for browser, account in (
                *((each, "u-fay") for each in (first, second, third)), (other, "u-max")
            ):  # fmt: skip
                browser.get(school.callback(browser, account))
                assert status_of(browser) == 200
            school.provider.sign_out(first)
            until(lambda: status_of(first) == 401)  # a checked session is cached for two seconds
            assert [status_of(each) for each in (second, third, other)] == [200] * 3
            school.provider.order(logoutBySession=False)
            school.provider.sign_out(second)
            until(lambda: [status_of(each) for each in (second, third)] == [401] * 2)
            assert status_of(other) == 200
            for token in ("", "a.b.c"):
                refused = other.post(path, data={"logout_token": token})
                assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    finally:
        school.provider.order(logoutUri=None, logoutBySession=True)
    query = {"action": "session.closed"}
    trail = httpx.get(f"{school.url}/api/v1/audit", params=query, headers=ADMIN).json()["items"]
    assert len(trail) >= 3
    assert {(each["actor"], each["subject"]) for each in trail} == {("oidc", "u-fay")}


def status_of(browser: httpx.Client) -> int:
    return browser.get("/api/v1/session").status_code


def test_no_token_and_no_code_is_logged(school: School) -> None:
    with school.browser() as browser:
        url = school.callback(browser, "u-nil")
        answer = browser.get(url)
    text = school.log.read_text()
    assert '"event":"oidc_sign_in_failed"' in text.replace('": "', '":"')
    assert answer.headers["x-request-id"] in text
    for name in ("code", "state"):
        assert httpx.URL(url).params[name] not in text
    assert "eyJ" not in text


@dataclass
class Variant:
    """The routes in this process, at a provider with other settings."""

    http: httpx.AsyncClient
    provider: IdentityProvider

    async def finish(self, account: str | None) -> httpx.Response:
        """Sign in and return the response to the browser that comes back."""
        begun = await self.http.get("/sign-in/oidc")
        assert begun.status_code == 303, begun.text
        with httpx.Client() as browser:
            back = self.provider.sign_in(browser, begun.headers["location"], account)
        return await self.http.get(back.headers["location"])


@asynccontextmanager
async def variant_of(
    db: Database, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> AsyncIterator[Variant]:
    for name, value in {**SETTINGS, "HOMEROOM_OIDC_ISSUER": provider.issuer, **settings}.items():
        monkeypatch.setenv(name, value)
    routes = build_school_sign_in(load(), db)
    assert routes is not None
    app = FastAPI()
    app.include_router(routes)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as http:
        yield Variant(http, provider)


@pytest.mark.anyio
async def test_a_public_client_signs_in_and_another_claim_may_name_the_person(
    db: Database, identity_provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"HOMEROOM_OIDC_CLIENT_ID": "homeroom-public", "HOMEROOM_OIDC_CLIENT_SECRET": ""}
    named = {"HOMEROOM_OIDC_USER_CLAIM": "email"}
    async with variant_of(db, identity_provider, monkeypatch, **own, **named) as variant:
        answer = await variant.finish("u-max")
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")
        token = variant.http.cookies["homeroom_session"]
        async with db.read() as tx:
            identity = await find_session(tx, token)
        assert identity is not None
        assert (identity.subject, identity.via, identity.roles) == (
            "max@school.example",
            "jwt",
            {Role.MANAGER},
        )
        # An address that the provider has not verified names no person.
        assert failure_of(await variant.finish("u-fay")) == (403, "no_user_id")


@pytest.mark.anyio
async def test_a_wrong_secret_and_a_provider_that_is_away_have_pages_of_their_own(
    sqlite: Database, tmp_path: Path, provider_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_provider(provider_folder) as provider:
        wrong = {"HOMEROOM_OIDC_CLIENT_SECRET": "wrong"}
        async with variant_of(sqlite, provider, monkeypatch, **wrong) as variant:
            assert failure_of(await variant.finish("u-fay")) == (502, "client_refused")
            begun = await variant.http.get("/sign-in/oidc")
            with httpx.Client() as browser:
                back = provider.sign_in(browser, begun.headers["location"], "u-fay")
            command = CommandLine(tmp_path)
            command.environment |= {**SETTINGS, "HOMEROOM_OIDC_ISSUER": provider.issuer}
            assert finding(command) == "ok"
            provider.stop()
            assert finding(command) == "error"
            answer = await variant.http.get(back.headers["location"])
            assert failure_of(answer) == (503, "provider_unavailable")
        async with variant_of(sqlite, provider, monkeypatch) as variant:
            answer = await variant.http.get("/sign-in/oidc")
            assert failure_of(answer) == (503, "provider_unavailable")
            left = await variant.http.get("/sign-in/oidc/sign-out")
            assert (left.status_code, left.headers["location"]) == (303, "/console")


@pytest.mark.anyio
async def test_a_database_that_stores_no_session_is_a_page_too(
    sqlite: SqliteDatabase, identity_provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with variant_of(sqlite, identity_provider, monkeypatch) as variant:
        async with sqlite.write() as tx:  # a name that fills a page, in a file that may not grow
            await tx.execute(
                "CREATE TRIGGER long AFTER INSERT ON session BEGIN"
                " UPDATE session SET name = zeroblob(100000); END"
            )
        async with sqlite._exclusive() as writer:
            await writer.execute("PRAGMA max_page_count=1")
        assert failure_of(await variant.finish("u-fay")) == (503, "session_not_stored")
        async with sqlite._exclusive() as writer:
            await writer.execute("PRAGMA max_page_count=100000")
        assert (await variant.finish("u-fay")).status_code == 303


def finding(command: CommandLine) -> str:
    """Return what ``homeroom check --connect`` finds of the provider."""
    items: list[dict[str, Any]] = json.loads(command("check", "--connect", "--json").stdout)[
        "items"
    ]
    [found] = [item for item in items if item["subject"] == "HOMEROOM_OIDC_ISSUER"]
    return str(found["status"])
