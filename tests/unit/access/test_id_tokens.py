"""ID tokens and discovery documents that a dishonest or broken provider could send."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from authlib.oidc.core.util import create_half_hash
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.support.key_server import KeyServer

from homeroom.access.id_token import verify_id_token
from homeroom.access.jwks import Jwks
from homeroom.access.logout_token import LOGOUT_EVENT, EndedSession, verify_logout_token
from homeroom.access.oidc_provider import ProviderMetadata
from homeroom.access.pending_sign_in import PendingCookie, PendingSignIn, console_path
from homeroom.access.sign_in_failure import SignInFailure, SignInFailureCode
from homeroom.errors import BadRequest

ISSUER, CLIENT, NONCE, ACCESS = "https://id.school.example", "homeroom", "n-1", "access-token"
KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
PUBLIC = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
INVALID, CLOCKS = SignInFailureCode.TOKEN_INVALID, SignInFailureCode.CLOCKS_DIFFER


@pytest.fixture
def key_server() -> Iterator[KeyServer]:
    server = KeyServer()
    server.keys = [key_named("k1")]
    yield server
    server.close()


@pytest.fixture
def jwks(key_server: KeyServer) -> Jwks:
    return Jwks(key_server.url, refresh_pause_seconds=60, are_ids_trusted=True)


def key_named(kid: str) -> dict[str, Any]:
    return {**PUBLIC, "kid": kid, "use": "sig", "alg": "RS256"}


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {"iss": ISSUER, "sub": "u-1", "aud": CLIENT, "exp": now + 300, "iat": now}
    every = {**usual, "nonce": NONCE, **changed}
    return {name: value for name, value in every.items() if value is not None}


def signed(kid: str = "k1", **changed: Any) -> str:
    return jwt.encode(claims(**changed), KEY, "RS256", headers={"kid": kid})


async def verified(token: str, jwks: Jwks) -> dict[str, Any]:
    return await verify_id_token(
        token, jwks, issuer=ISSUER, client_id=CLIENT, nonce=NONCE, access_token=ACCESS
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"aud": [CLIENT]},
        {"aud": [CLIENT, "another"], "azp": CLIENT},
        {"at_hash": create_half_hash(ACCESS, "RS256").decode()},
    ],
)
async def test_a_token_of_the_provider_for_this_sign_in_is_accepted(
    jwks: Jwks, changed: dict[str, Any]
) -> None:
    assert (await verified(signed(**changed), jwks))["sub"] == "u-1"


@pytest.mark.anyio
async def test_keys_that_change_right_after_a_fetch_are_fetched_again(
    jwks: Jwks, key_server: KeyServer
) -> None:
    assert await verified(signed(), jwks)
    key_server.keys = [key_named("k2")]
    assert await verified(signed("k2"), jwks)


@pytest.mark.anyio
async def test_clocks_may_differ_by_seconds(jwks: Jwks) -> None:
    now = time.time()
    assert await verified(signed(iat=now + 15, exp=now - 15), jwks)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"iss": "https://id.elsewhere.example"}, INVALID),
        ({"iss": None}, INVALID),
        ({"aud": "another"}, INVALID),
        ({"aud": [CLIENT, "another"]}, INVALID),  # and no azp
        ({"aud": [CLIENT, "another"], "azp": "another"}, INVALID),
        ({"nonce": "n-2"}, INVALID),
        ({"nonce": None}, INVALID),
        ({"sub": None}, INVALID),
        ({"at_hash": create_half_hash("another", "RS256").decode()}, INVALID),
        ({"exp": None}, INVALID),
        ({"exp": "soon"}, INVALID),
        ({"exp": 1}, CLOCKS),
        ({"iat": 4_000_000_000}, CLOCKS),
        ({"nbf": 4_000_000_000}, CLOCKS),
    ],
)
async def test_a_token_with_another_claim_is_refused(
    jwks: Jwks, changed: dict[str, Any], code: SignInFailureCode
) -> None:
    with pytest.raises(SignInFailure) as raised:
        await verified(signed(**changed), jwks)
    assert raised.value.code == code


@pytest.mark.anyio
@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        jwt.encode(claims(), None, "none"),
        jwt.encode(claims(), "x" * 32, "HS256", headers={"kid": "k1"}),
        jwt.encode(claims(), OTHER_KEY, "RS256", headers={"kid": "k1"}),
        jwt.encode(claims(), OTHER_KEY, "RS256", headers={"kid": "k2"}),
        jwt.encode(claims(), KEY, "PS256", headers={"kid": "k1"}),  # the key is for RS256
    ],
)
async def test_a_token_that_no_key_of_the_provider_has_signed_is_refused(
    jwks: Jwks, token: str
) -> None:
    with pytest.raises(SignInFailure) as raised:
        await verified(token, jwks)
    assert raised.value.code == INVALID


LOGOUT = {"nonce": None, "events": {LOGOUT_EVENT: {}}, "sid": "s-1"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("changed", "ended"),
    [
        ({}, EndedSession("s-1", "u-1")),
        ({"sub": None}, EndedSession("s-1", None)),
        ({"sid": None, "exp": None}, EndedSession(None, "u-1")),
    ],
)
async def test_a_logout_token_ends_a_session_or_all_of_a_person(
    jwks: Jwks, changed: dict[str, Any], ended: EndedSession
) -> None:
    token = signed(**{**LOGOUT, **changed})
    assert await verify_logout_token(token, jwks, issuer=ISSUER, client_id=CLIENT) == ended


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kid", "changed"),
    [
        ("k1", {"nonce": NONCE}),  # an ID token
        ("k1", {"events": None}),
        ("k1", {"events": {"https://id.school.example/other": {}}}),
        ("k1", {"events": [LOGOUT_EVENT]}),
        ("k1", {"sid": None, "sub": None}),
        ("k1", {"sid": 7}),
        ("k1", {"aud": "another"}),
        ("k1", {"iss": "https://id.elsewhere.example"}),
        ("k1", {"iat": None}),
        ("k1", {"iat": 1_700_000_000}),
        ("k1", {"iat": 4_000_000_000}),
        ("k1", {"exp": 1_700_000_000}),
        ("k2", {}),
    ],
)
async def test_another_token_ends_no_session(jwks: Jwks, kid: str, changed: dict[str, Any]) -> None:
    token = signed(kid, **{**LOGOUT, **changed})
    with pytest.raises(BadRequest, match="logout token"):
        await verify_logout_token(token, jwks, issuer=ISSUER, client_id=CLIENT)


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "https://id.elsewhere.example"},
        {"token_endpoint": "http://id.school.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"end_session_endpoint": "javascript:alert(1)"},
    ],
)
def test_a_document_of_another_issuer_or_with_unsafe_addresses_is_refused(
    changed: dict[str, str],
) -> None:
    usual = {
        "issuer": f"{ISSUER}/",  # as that of Auth0 ends
        "authorization_endpoint": f"{ISSUER}/authorize",
        "token_endpoint": f"{ISSUER}/token",
        "jwks_uri": f"{ISSUER}/keys",
    }
    ProviderMetadata(**usual).check(ISSUER)
    with pytest.raises(ValueError, match="document"):
        ProviderMetadata(**{**usual, **changed}).check(ISSUER)


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        "",
        "/",
        "/docs",
        "/consoles",
        "//evil.example/console",
        "https://evil.example/console",
        "/console/../docs",
        "/console/%2E%2e/docs",
        "/console\\..\\docs",
        "/console/\r\nSet-Cookie: a=b",
        "/console/" + "x" * 1_500,
    ],
)
def test_only_a_page_of_the_console_follows_a_sign_in(wanted: str | None) -> None:
    assert console_path(wanted) == "/console"


@pytest.mark.parametrize(
    "wanted", ["/console", "/console?a=b", "/console/jobs?q=ada%20b&state=failed"]
)
def test_a_page_of_the_console_follows_with_its_filters(wanted: str) -> None:
    assert console_path(wanted) == wanted


def test_a_cookie_is_of_one_sign_in_and_is_whole() -> None:
    cookie, pending = PendingCookie(secure=True), PendingSignIn("s" * 43, "n", "v", "/console")
    value = cookie.encode(pending)
    assert cookie.name(pending.state).startswith("__Host-")
    assert cookie.decode(value, pending.state) == pending
    for other in (None, "", "%", value[:-4], value + "A"):
        assert cookie.decode(other, pending.state) is None
    assert cookie.decode(value, "x" * 43) is None
    nameless = cookie.encode(PendingSignIn("", "n", "v", "/console"))
    assert cookie.decode(nameless, "") is None
