"""Keys, sessions and the audit trail over HTTP."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import jwt
import pytest
from tests.support.operations_app import ADMIN, JWT_SECRET, OperationsApp, operations_app

from homeroom.access.api import create_first_sign_in, create_sign_in
from homeroom.access.routes import sign_in_link
from homeroom.db.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.service]


@pytest.fixture
async def home(db: Database) -> AsyncIterator[OperationsApp]:
    async with operations_app(db) as found:
        yield found


def bearer(subject: str, *roles: str) -> dict[str, str]:
    claims = {"sub": subject, "roles": list(roles), "exp": time.time() + 60}
    return {"Authorization": f"Bearer {jwt.encode(claims, JWT_SECRET, 'HS256')}"}


async def test_a_key_is_made_used_listed_and_revoked(home: OperationsApp) -> None:
    made = await home.client.post(
        "/api/v1/keys", json={"name": "prometheus", "roles": ["viewer"]}, headers=ADMIN
    )
    assert made.status_code == 201
    key = made.json()
    assert key["token"].startswith("hr_")
    assert key["createdAt"].endswith("Z")
    header = {"Authorization": f"Bearer {key['token']}"}
    assert (await home.client.get("/metrics", headers=header)).status_code == 200

    listed = (await home.client.get("/api/v1/keys", headers=ADMIN)).json()
    assert [item["name"] for item in listed["items"]] == ["prometheus"]
    assert key["token"] not in str(listed)
    assert "hash" not in str(listed)

    gone = await home.client.delete(f"/api/v1/keys/{key['id']}", headers=ADMIN)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await home.client.get("/metrics", headers=header)).status_code == 401
    assert (await home.client.delete("/api/v1/keys/unknown", headers=ADMIN)).status_code == 404
    [item] = (await home.client.get("/api/v1/keys", headers=ADMIN)).json()["items"]
    assert item["revokedAt"] is not None

    trail = (await home.client.get("/api/v1/audit", headers=ADMIN)).json()["items"]
    assert [(line["actor"], line["action"], line["subject"]) for line in trail] == [
        ("admin key", "key.revoked", key["id"]),
        ("admin key", "key.made", key["id"]),
    ]
    assert key["token"] not in str(trail)


async def test_lists_of_keys_and_of_the_trail_are_paged(home: OperationsApp) -> None:
    for index in range(5):
        await home.client.post(
            "/api/v1/keys", json={"name": f"k{index}", "roles": ["viewer"]}, headers=ADMIN
        )
    for path in ("/api/v1/keys", "/api/v1/audit"):
        seen: list[str] = []
        cursor: str | None = None
        while True:
            params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await home.client.get(path, params=params, headers=ADMIN)).json()
            seen += [item["id"] for item in page["items"]]
            cursor = page["nextCursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 5
    found = await home.client.get("/api/v1/audit?action=key.made&subject=none", headers=ADMIN)
    assert found.json()["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "roles": []},
        {"name": "x", "roles": ["emperor"]},
        {"name": "x\n", "roles": ["viewer"]},
        {"name": "", "roles": ["viewer"]},
        {"name": "x" * 129, "roles": ["viewer"]},
        {"name": "x", "roles": ["viewer"], "token": "mine"},
    ],
)
async def test_a_key_with_odd_values_is_not_made(
    home: OperationsApp, body: dict[str, object]
) -> None:
    answer = await home.client.post("/api/v1/keys", json=body, headers=ADMIN)
    assert answer.status_code == 422
    assert (await home.client.get("/api/v1/keys", headers=ADMIN)).json()["items"] == []


async def test_only_admins_handle_keys(home: OperationsApp) -> None:
    assert (await home.client.get("/api/v1/keys")).status_code == 401
    for role in ("learner", "operator", "service", "viewer"):
        answer = await home.client.get("/api/v1/keys", headers=bearer("ada", role))
        assert answer.status_code == 403
    assert (await home.client.get("/api/v1/keys", headers=bearer("ada", "admin"))).is_success


async def test_a_sign_in_link_opens_one_session(home: OperationsApp) -> None:
    async with home.db.write() as tx:
        token = await create_first_sign_in(tx)
    assert token is not None
    link = sign_in_link(str(home.client.base_url).rstrip("/"), token)
    page = await home.client.get(link)
    assert page.status_code == 200
    assert "script-src 'sha256-" in page.headers["content-security-policy"]

    opened = await home.client.post("/api/v1/session", json={"token": token})
    assert opened.status_code == 201
    session = {"name": "first admin", "userId": None, "roles": ["admin"], "signOutPath": None}
    assert opened.json() == session
    cookie = opened.headers["set-cookie"].lower()
    for part in ("httponly", "samesite=strict", "max-age=3600", "path=/"):
        assert part in cookie
    assert (await home.client.get("/api/v1/keys")).status_code == 200  # by the cookie
    assert (await home.client.post("/api/v1/session", json={"token": token})).status_code == 401

    assert (await home.client.delete("/api/v1/session")).status_code == 204
    assert (await home.client.get("/api/v1/keys")).status_code == 401
    assert (await home.client.delete("/api/v1/session")).status_code == 204
    async with home.db.write() as tx:
        assert await create_first_sign_in(tx) is None


async def test_an_ended_session_is_over_for_who_kept_the_cookie(home: OperationsApp) -> None:
    async with home.db.write() as tx:
        token = await create_sign_in(tx, "dashboard", ["viewer"])
    await home.client.post("/api/v1/session", json={"token": token})
    kept = home.client.cookies["homeroom_session"]
    await home.client.delete("/api/v1/session")
    answer = await home.client.get("/metrics", headers={"Cookie": f"homeroom_session={kept}"})
    assert answer.status_code == 401


async def test_a_key_opens_a_session_with_its_roles(home: OperationsApp) -> None:
    token = (await home.key("operator"))["Authorization"].removeprefix("Bearer ")
    opened = await home.client.post("/api/v1/session", json={"token": token})
    session = {"name": "operator", "userId": None, "roles": ["operator"], "signOutPath": None}
    assert opened.json() == session
    assert (await home.client.get("/api/v1/keys")).status_code == 403
    assert (await home.client.get("/api/v1/audit")).status_code == 200
    assert (await home.client.post("/api/v1/session", json={"token": "x"})).status_code == 401


async def test_a_jwt_opens_a_session_of_its_person_that_ends_with_it(home: OperationsApp) -> None:
    def token_of(*roles: str) -> str:
        return bearer("ada", *roles)["Authorization"].removeprefix("Bearer ")

    without_role = await home.client.post("/api/v1/session", json={"token": token_of()})
    assert without_role.status_code == 403
    opened = await home.client.post("/api/v1/session", json={"token": token_of("facilitator")})
    session = {"name": "ada", "userId": "ada", "roles": ["facilitator"], "signOutPath": None}
    assert opened.json() == session
    assert (await home.client.get("/api/v1/session")).json() == opened.json()
    cross_site = {"Sec-Fetch-Site": "cross-site"}
    refused = await home.client.post("/api/v1/events/ticket", headers=cross_site)
    assert refused.status_code == 403
    assert (await home.client.post("/api/v1/events/ticket")).status_code == 201
    async with home.db.read() as tx:
        [(created_at, expires_at)] = await tx.fetch("SELECT created_at, expires_at FROM session")
    assert expires_at - created_at <= 60_000_000


async def test_without_an_identity_provider_no_school_account_is_offered(
    home: OperationsApp,
) -> None:
    methods = await home.client.get("/api/v1/sign-in")
    assert methods.json() == {"schoolAccountPath": None}
    for path in ("/sign-in/oidc", "/sign-in/oidc/callback", "/sign-in/oidc/sign-out"):
        assert (await home.client.get(path)).status_code == 404


async def test_another_origin_cannot_use_the_cookie(home: OperationsApp) -> None:
    async with home.db.write() as tx:
        token = await create_sign_in(tx, "dashboard", ["admin"])
    await home.client.post("/api/v1/session", json={"token": token})
    body = {"name": "evil", "roles": ["admin"]}
    for headers in (
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
    ):
        answer = await home.client.post("/api/v1/keys", json=body, headers=headers)
        assert answer.status_code == 403, headers
    own = {"Origin": str(home.client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert (await home.client.post("/api/v1/keys", json=body, headers=own)).status_code == 201
