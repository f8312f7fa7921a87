"""Tokens: keys, the admin key, sessions, JWTs by secret and by key set."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.support.key_server import KeyServer

from homeroom.access import store
from homeroom.access.api import (
    Authenticator,
    Jwks,
    JwtVerifier,
    create_first_sign_in,
    create_key,
    revoke_key,
)
from homeroom.access.store import hash_token
from homeroom.clock import Clock
from homeroom.db.database import Database
from homeroom.errors import Unauthenticated, Unavailable
from homeroom.instant import SECOND

pytestmark = pytest.mark.anyio
SECRET = "a-secret-of-more-than-thirty-two-bytes!"


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "ada", "exp": time.time() + 60, "roles": ["learner"], **more}


def signed(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **more: Any) -> str:
    return jwt.encode(claims(**more), key, algorithm, headers={"kid": kid} if kid else None)


@pytest.fixture
async def access(db: Database) -> AsyncIterator[Authenticator]:
    access = Authenticator(
        db, admin_key="the-admin-key-of-the-test", jwt_verifier=JwtVerifier(secret=SECRET)
    )
    yield access
    await access.close()


async def new_key(db: Database, *roles: str) -> tuple[str, str]:
    async with db.write() as tx:
        key, token = await create_key(tx, "player", roles)
    return key.id, token


async def test_a_key_stands_for_its_name_and_roles(access: Authenticator, db: Database) -> None:
    id, token = await new_key(db, "service", "viewer")
    who = await access.identify(f"Bearer {token}", None)
    assert (who.subject, who.roles, who.via, who.key_id) == (
        "player",
        {"service", "viewer"},
        "key",
        id,
    )


async def test_the_token_of_a_key_is_stored_nowhere(db: Database) -> None:
    _, token = await new_key(db, "service")
    async with db.read() as tx:
        rows = await tx.fetch("SELECT * FROM api_key")
    assert token not in repr(rows)
    assert token.removeprefix("hr_") not in repr(rows)


async def test_the_use_of_a_key_is_noted_once_in_five_minutes(
    access: Authenticator, db: Database, clock: Clock
) -> None:
    async def last_used() -> int | None:
        await access.close()
        async with db.read() as tx:
            return (await store.list_keys(tx, 10))[0].last_used_at

    _, token = await new_key(db, "service")
    await access.identify(f"Bearer {token}", None)
    first = await last_used()
    assert first is not None
    access.clear_cache()
    await access.identify(f"Bearer {token}", None)
    assert await last_used() == first
    clock.advance(timedelta(minutes=6))
    access.clear_cache()
    await access.identify(f"Bearer {token}", None)
    assert (await last_used() or 0) > first


async def test_a_revoked_key_is_refused_within_two_seconds(db: Database) -> None:
    access = Authenticator(db, cache_seconds=99)  # more than two is not to be had
    id, token = await new_key(db, "service")
    await access.identify(f"Bearer {token}", None)
    async with db.write() as tx:
        await revoke_key(tx, id)
    revoked = time.monotonic()
    while True:
        try:
            await access.identify(f"Bearer {token}", None)
        except Unauthenticated:
            break
        assert time.monotonic() - revoked < 2.5
        await asyncio.sleep(0.02)
    await access.close()


async def test_many_requests_at_once_look_a_key_up_once(
    access: Authenticator, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = await new_key(db, "service")
    reads = 0
    read = db.read

    def counted() -> Any:
        nonlocal reads
        reads += 1
        return read()

    monkeypatch.setattr(db, "read", counted)
    found = await asyncio.gather(*(access.identify(f"Bearer {token}", None) for _ in range(64)))
    assert len(set(found)) == 1
    assert reads == 1


async def test_the_admin_key_may_do_all(access: Authenticator) -> None:
    who = await access.identify("bearer the-admin-key-of-the-test", None)
    assert who.roles == {"admin"}


async def test_a_session_ends_with_the_admin_key_that_opened_it(
    access: Authenticator, db: Database
) -> None:
    who = await access.identify("bearer the-admin-key-of-the-test", None)
    async with db.write() as tx:
        cookie = await store.open_session(tx, who, 60_000_000)
    assert (await access.identify(None, cookie)).roles == {"admin"}
    for changed in ("the-next-admin-key-of-the-test", None):
        later = Authenticator(db, admin_key=changed)
        with pytest.raises(Unauthenticated, match="admin key has changed"):
            await later.identify(None, cookie)
        await later.close()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic abc",
        "Bearer the-admin-key-of-the-tesT",
        "Bearer hr_" + "x" * 43,
        "Bearer hr_'; DROP TABLE api_key; --",
        "Bearer a.b.c",
        "Bearer " + "é" * 20,
        "Bearer \udc80",
        "Bearer " + "x" * 100_000,
        "Bearer once_" + "x" * 43,
    ],
)
async def test_what_is_no_token_is_refused(access: Authenticator, header: str) -> None:
    with pytest.raises(Unauthenticated):
        await access.identify(header, None)


async def test_nothing_at_all_is_refused(access: Authenticator) -> None:
    with pytest.raises(Unauthenticated):
        await access.identify(None, None)


async def test_a_jwt_stands_for_its_subject_and_the_roles_that_exist(access: Authenticator) -> None:
    token = signed(roles=["learner", "emperor", 7])
    who = await access.identify(f"Bearer {token}", None)
    assert (who.subject, who.roles, who.via) == ("ada", {"learner"}, "jwt")


def base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def part(value: Any) -> str:
    return base64url(json.dumps(value).encode())


def unsigned() -> str:
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims())}."


@pytest.mark.parametrize(
    "token",
    [
        signed(exp=time.time() - 1),
        jwt.encode({"sub": "ada", "roles": ["admin"]}, SECRET, "HS256"),
        jwt.encode({"exp": time.time() + 60, "roles": ["admin"]}, SECRET, "HS256"),
        signed("another-secret-of-more-than-thirty-two-bytes"),
        signed(algorithm="HS512", key=SECRET * 2),
        signed(nbf=time.time() + 600),
        signed(sub="x" * 129),
        signed(sub="a\nb"),
        signed(exp=10**400),
        signed(exp="9" * 400),
        unsigned(),
    ],
    ids=[
        "expired",
        "endless",
        "without a subject",
        "foreign",
        "HS512",
        "future",
        "long",
        "control",
        "an endless date",
        "an endless date as text",
        "none",
    ],
)
async def test_a_bad_jwt_is_refused(access: Authenticator, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await access.identify(f"Bearer {token}", None)


async def test_a_jwt_is_not_believed_past_its_end(access: Authenticator) -> None:
    token = signed(exp=time.time() + 0.6)
    header = f"Bearer {token}"
    # PyJWT compares whole seconds, so the token may be over at once; it may never live longer.
    ends = time.monotonic() + 0.6

    async def use_until_late() -> None:
        while time.monotonic() < ends + 0.2:
            await access.identify(header, None)
            await asyncio.sleep(0.02)

    with pytest.raises(Unauthenticated):
        await use_until_late()


async def test_issuer_and_audience_are_checked_where_they_are_set(db: Database) -> None:
    access = Authenticator(
        db, jwt_verifier=JwtVerifier(secret=SECRET, issuer="https://id", audience="homeroom")
    )
    good = signed(iss="https://id", aud=["homeroom", "other"])
    assert (await access.identify(f"Bearer {good}", None)).subject == "ada"
    for bad in (signed(), signed(iss="https://id"), signed(iss="https://di", aud="homeroom")):
        with pytest.raises(Unauthenticated):
            await access.identify(f"Bearer {bad}", None)


@pytest.fixture
def key_server() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.close()


RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def rsa_jwk(kid: str, **more: Any) -> dict[str, Any]:
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True)
    return {**jwk, "kid": kid, **more}


def ec_jwk(kid: str) -> dict[str, Any]:
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True)
    return {**jwk, "kid": kid}


async def test_keys_of_a_key_set_are_fetched_once_and_told_apart(
    db: Database, key_server: KeyServer
) -> None:
    key_server.keys = [rsa_jwk("r"), ec_jwk("e")]
    access = Authenticator(db, jwt_verifier=JwtVerifier(jwks=Jwks(key_server.url)))
    for token in (signed(RSA_KEY, "RS256", "r"), signed(EC_KEY, "ES256", "e")):
        assert (await access.identify(f"Bearer {token}", None)).subject == "ada"
    assert key_server.asked == 1
    with pytest.raises(Unauthenticated):
        await access.identify(f"Bearer {signed(RSA_KEY, 'RS256', 'e')}", None)
    with pytest.raises(Unauthenticated):  # the key says RS256, so nothing else will do
        await access.identify(f"Bearer {signed(RSA_KEY, 'RS512', 'r')}", None)


async def test_a_public_key_is_no_secret(db: Database, key_server: KeyServer) -> None:
    """The classic attack: HS256, signed with the text of the public key."""
    key_server.keys = [rsa_jwk("r"), {"kty": "oct", "k": "c2VjcmV0", "kid": "o", "alg": "HS256"}]
    access = Authenticator(db, jwt_verifier=JwtVerifier(jwks=Jwks(key_server.url)))
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for kid, secret in (("r", pem), ("o", b"secret")):
        head = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{part(claims())}"
        mac = hmac.digest(secret, head.encode(), "sha256")
        with pytest.raises(Unauthenticated):
            await access.identify(f"Bearer {head}.{base64url(mac)}", None)


async def test_a_new_key_is_fetched_but_unknown_ones_cause_no_flood(
    db: Database, key_server: KeyServer
) -> None:
    key_server.keys = [rsa_jwk("old")]
    patient = JwtVerifier(jwks=Jwks(key_server.url))
    await patient.verify(signed(RSA_KEY, "RS256", "old"))
    for index in range(20):
        with pytest.raises(Unauthenticated):
            await patient.verify(signed(RSA_KEY, "RS256", f"unknown-{index}"))
    assert key_server.asked == 1
    eager = JwtVerifier(jwks=Jwks(key_server.url, refresh_pause_seconds=0))
    await eager.verify(signed(RSA_KEY, "RS256", "old"))
    key_server.keys = [rsa_jwk("new")]
    assert (await eager.verify(signed(RSA_KEY, "RS256", "new"))).subject == "ada"


async def test_without_any_keys_the_answer_is_to_come_back(
    db: Database, key_server: KeyServer
) -> None:
    key_server.status = 500
    verifier = JwtVerifier(jwks=Jwks(key_server.url))
    with pytest.raises(Unavailable) as raised:
        await verifier.verify(signed(RSA_KEY, "RS256", "r"))
    assert raised.value.retry_after_seconds == 30


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"[" * 200_000, None),
        (gzip.compress(b'{"keys": []}' + b" " * 200_000_000, 1), "gzip"),
        (gzip.compress(b'{"keys": []}'), "gzip"),
    ],
    ids=["deep", "a bomb", "packed though not asked to"],
)
async def test_a_key_set_that_cannot_be_read_is_a_fault_of_its_server(
    key_server: KeyServer, body: bytes, encoding: str | None
) -> None:
    key_server.body, key_server.encoding = body, encoding
    with pytest.raises(Unavailable):
        await JwtVerifier(jwks=Jwks(key_server.url)).verify(signed(RSA_KEY, "RS256", "r"))


async def test_no_proxy_of_the_environment_is_asked_for_keys(
    key_server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    key_server.keys = [rsa_jwk("r")]
    verifier = JwtVerifier(jwks=Jwks(key_server.url))
    assert (await verifier.verify(signed(RSA_KEY, "RS256", "r"))).subject == "ada"


async def test_known_keys_outlive_a_fault_of_their_server(key_server: KeyServer) -> None:
    key_server.keys = [rsa_jwk("r")]
    verifier = JwtVerifier(jwks=Jwks(key_server.url, refresh_pause_seconds=0))
    await verifier.verify(signed(RSA_KEY, "RS256", "r"))
    key_server.keys = [{"n": "x" * 300_000}]
    with pytest.raises(Unauthenticated):
        await verifier.verify(signed(RSA_KEY, "RS256", "other"))
    assert (await verifier.verify(signed(RSA_KEY, "RS256", "r"))).subject == "ada"


async def test_a_sign_in_link_works_once_and_for_a_day(db: Database, clock: Clock) -> None:
    async with db.write() as tx:
        token = await create_first_sign_in(tx)
    assert token is not None
    async with db.write() as tx:
        assert (await store.redeem_sign_in(tx, token)).roles == {"admin"}
    for wrong in (token, token + "x", ""):
        with pytest.raises(Unauthenticated):
            async with db.write() as tx:
                await store.redeem_sign_in(tx, wrong)
    async with db.write() as tx:
        late = await store.create_sign_in(tx, "late", ["viewer"])
    clock.advance(timedelta(hours=24, seconds=1))
    with pytest.raises(Unauthenticated):
        async with db.write() as tx:
            await store.redeem_sign_in(tx, late)


async def test_only_a_house_without_any_key_gets_a_first_admin(db: Database) -> None:
    await new_key(db, "viewer")
    async with db.write() as tx:
        assert await create_first_sign_in(tx) is None


async def test_digests_of_what_is_remembered_are_no_tokens(
    access: Authenticator, db: Database
) -> None:
    _, key = await new_key(db, "operator")
    who = await access.identify(f"Bearer {key}", None)
    async with db.write() as tx:
        cookie = await store.open_session(tx, who, 3_600 * SECOND)
    jwt = signed(note="x" * 200)  # which is too long to be remembered as it came
    for header, session in ((f"Bearer {key}", None), (f"Bearer {jwt}", None), (None, cookie)):
        for _ in range(2):
            await access.identify(header, session)
    for secret in (key, jwt, cookie):
        for kind in ("", "s", "t", "Bearer ", "bearer s", "bearer t"):
            with pytest.raises(Unauthenticated):
                await access.identify(kind + hash_token(secret), None)


async def test_a_session_ends_with_its_time_its_key_and_its_sign_out(
    access: Authenticator, db: Database, clock: Clock
) -> None:
    id, token = await new_key(db, "operator")
    who = await access.identify(f"Bearer {token}", None)

    async def opened() -> str:
        access.clear_cache()
        async with db.write() as tx:
            cookie = await store.open_session(tx, who, 3_600 * SECOND)
        assert (await access.identify(None, cookie)).roles == {"operator"}
        access.clear_cache()
        return cookie

    by_time, by_key = await opened(), await opened()
    by_sign_out = await opened()
    async with db.write() as tx:
        await store.close_session(tx, by_sign_out)
    with pytest.raises(Unauthenticated):
        await access.identify(None, by_sign_out)
    async with db.write() as tx:
        await revoke_key(tx, id)
    with pytest.raises(Unauthenticated):
        await access.identify(None, by_key)
    async with db.write() as tx:
        admin = await store.open_session(tx, who, 3_600 * SECOND)
    clock.advance(timedelta(hours=2))
    for cookie in (by_time, admin):
        with pytest.raises(Unauthenticated):
            await access.identify(None, cookie)
    async with db.write() as tx:
        assert await store.prune(tx) == 1
