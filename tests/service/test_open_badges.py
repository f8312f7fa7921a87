"""Credentials that this installation signs: issued once, published, revoked, erased."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import jwt
import pytest
from tests.support.api_client import as_
from tests.support.badge_school import BASE_URL, BadgeSchool, badge_school

from homeroom.bootstrap.personal_data import PERSONAL_DATA
from homeroom.credentials.api import IssuerProfile
from homeroom.credentials.open_badges import badge_store, signing
from homeroom.db.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.service]


ANY_TIME: Any = {"verify_exp": False, "verify_nbf": False}
"""The tests hold on any date of the machine."""


@pytest.fixture
async def school(db: Database) -> AsyncIterator[BadgeSchool]:
    async with badge_school(db) as built:
        yield built


async def get(school: BadgeSchool, url: str) -> Any:
    answer = await school.http.get(url.removeprefix(BASE_URL))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def key_of(school: BadgeSchool, jws: str) -> jwt.PyJWK:
    """Return the published key that a JWS names, as a verifier finds it."""
    kid = jwt.get_unverified_header(jws)["kid"]
    keys = jwt.PyJWKSet.from_dict(await get(school, "/issuer/jwks.json"))
    assert (await get(school, kid))["kid"] == kid
    return keys[kid]


async def is_status_set(school: BadgeSchool, document: dict[str, Any]) -> bool:
    """Read the status of a credential as Bitstring Status List describes it."""
    entry = document["credentialStatus"]
    status = await get(school, entry["statusListCredential"])
    subject = status["credentialSubject"]
    assert subject["statusPurpose"] == entry["statusPurpose"] == "revocation"
    packed = subject["encodedList"].removeprefix("u")
    bits = gzip.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    assert len(bits) >= 16 * 1024
    index = int(entry["statusListIndex"])
    return bool(bits[index // 8] & (0x80 >> index % 8))


async def test_a_completion_becomes_a_credential_that_anyone_can_verify(
    school: BadgeSchool,
) -> None:
    credential = await school.issue()
    assert credential.url == f"{BASE_URL}/credentials/{credential.id}"
    assert len(credential.id) >= 24
    document = await get(school, f"/credentials/{credential.id}.json")
    assert document["id"] == credential.url
    jws = (await school.http.get(f"/credentials/{credential.id}.jwt")).text
    key = await key_of(school, jws)
    claims = jwt.decode(jws, key, algorithms=["EdDSA"], options=ANY_TIME)
    assert {name: claims[name] for name in document if name != "proof"} == {
        name: value for name, value in document.items() if name != "proof"
    }
    assert claims["iss"] == f"{BASE_URL}/issuer/profile"
    assert claims["jti"] == document["id"]
    assert jwt.get_unverified_header(jws).keys() == {"alg", "kid", "typ"}
    head, body, signature = jws.split(".")
    forged = body[:-8] + "AAAAAAAA"
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(f"{head}.{forged}.{signature}", key, algorithms=["EdDSA"])
    profile = await get(school, "/issuer/profile")
    assert profile["assertionMethod"] == [document["proof"]["verificationMethod"]]
    multikey = await get(school, profile["assertionMethod"][0])
    assert multikey["controller"] == profile["id"] == document["issuer"]["id"]


async def test_an_expired_credential_is_refused(school: BadgeSchool) -> None:
    credential = await school.issue(validity="P1D")
    jws = (await school.http.get(f"/credentials/{credential.id}.jwt")).text
    key = await key_of(school, jws)
    claims = jwt.decode(jws, key, algorithms=["EdDSA"], options=ANY_TIME)
    assert claims["exp"] == claims["nbf"] + 86_400
    claims |= {"nbf": 0, "exp": 86_400}
    old = jwt.encode(
        claims, (await signing_key(school)).private, algorithm="EdDSA", headers={"kid": key.key_id}
    )
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(old, key, algorithms=["EdDSA"])


async def signing_key(school: BadgeSchool) -> signing.SigningKey:
    async with school.db.write() as tx:
        return await school.issuer.signing_key(tx)


async def test_the_document_names_no_person(school: BadgeSchool) -> None:
    credential = await school.issue()
    answer = await school.http.get(f"/credentials/{credential.id}.json")
    for text in ("ada@", "Ada", "fọ̀r", '"ada"'):
        assert text not in answer.text
    [identity] = answer.json()["credentialSubject"]["identifier"]
    hashed = hashlib.sha256(f"ada@example.org{identity['salt']}".encode()).hexdigest()
    assert identity["identityHash"] == f"sha256${hashed}"
    assert identity["identityType"] == "emailAddress"
    assert "evidence" not in answer.json()


async def test_a_school_may_publish_hours_and_score(db: Database) -> None:
    async with badge_school(db, evidence=frozenset({"hours", "score"})) as school:
        credential = await school.issue()
        document = await get(school, f"/credentials/{credential.id}.json")
    assert [(each["name"], each["narrative"]) for each in document["evidence"]] == [
        ("Time spent", "1.5 hours"),
        ("Score", "87.5 %"),
    ]


async def test_an_attempt_that_dies_leaves_its_id_to_the_next(
    school: BadgeSchool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt dies after id and status number are stored, before the signature is."""
    sign, stored = school.issuer.sign, []

    async def die_once(*args: Any) -> badge_store.OpenBadge:
        async with school.db.read() as tx:
            stored.extend(await tx.fetch("SELECT credential_id, number FROM credential_status"))
        if len(stored) == 1:
            raise RuntimeError
        return await sign(*args)

    monkeypatch.setattr(school.issuer, "sign", die_once)
    completion_id = await school.complete(await school.publish())

    async def skip_an_hour() -> None:
        school.db.clock.advance(timedelta(hours=1))

    await school.kernel.run_jobs(skip_an_hour)
    step = await school.step(completion_id)
    assert (step.status, step.attempts) == ("completed", 2)
    assert stored[0] == stored[1] == (step.external_id, 1)
    async with school.db.read() as tx:
        assert await tx.fetch("SELECT credential_id FROM open_badge") == [(step.external_id,)]


async def test_a_revoked_credential_says_so(school: BadgeSchool) -> None:
    first, second = await school.issue("ada"), await school.issue("bo")
    documents = [await get(school, f"/credentials/{each.id}.json") for each in (first, second)]
    assert not await is_status_set(school, documents[0])
    path = f"/api/v1/credentials/{first.id}/revoke"
    body = {"reason": "issued by mistake"}
    assert (await school.http.post(path, json=body, headers=as_("learner:ada"))).status_code == 403
    answer = await school.http.post(path, json=body, headers=as_("operator"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "revoked"
    assert [await is_status_set(school, each) for each in documents] == [True, False]


async def test_without_https_nothing_is_signed(db: Database) -> None:
    profile = IssuerProfile("http://127.0.0.1:8420", "Here")
    async with badge_school(db, profile=profile) as school:
        step = await school.step(await school.complete(await school.publish()))
        assert (step.status, step.skip_code) == ("skipped", "public_url_not_https")
        assert (await get(school, "/issuer/jwks.json")) == {"keys": []}
    async with badge_school(db, profile=profile, allows_http=True) as school:
        assert (await school.issue("bo")).state == "issued"


async def test_older_keys_stay_published_and_lose_their_private_half(school: BadgeSchool) -> None:
    before = await school.issue("ada")
    id = await school.issuer.rotate_key("cli:test")
    after = await school.issue("bo")
    texts = [
        (await school.http.get(f"/credentials/{each.id}.jwt")).text for each in (before, after)
    ]
    keys = [await key_of(school, text) for text in texts]
    assert keys[1].key_id.endswith(f"{id}/jwk")
    assert keys[0].key_id != keys[1].key_id
    for text, key in zip(texts, keys, strict=True):
        jwt.decode(text, key, algorithms=["EdDSA"], options=ANY_TIME)
    async with school.db.read() as tx:
        stored = await badge_store.list_keys(tx)
    assert [each.private_key is None for each in stored] == [False, True]
    assert len((await get(school, "/issuer/profile"))["assertionMethod"]) == 2


async def test_a_key_file_is_published_and_not_stored(db: Database) -> None:
    key = signing.SigningKey.of(signing.Ed25519PrivateKey.generate())
    async with badge_school(db, file_key=key) as school:
        credential = await school.issue()
        jws = (await school.http.get(f"/credentials/{credential.id}.jwt")).text
        assert (await key_of(school, jws)).key_id.endswith(f"{key.id}/jwk")
    async with db.read() as tx:
        assert [each.private_key for each in await badge_store.list_keys(tx)] == [None]


async def test_only_the_holder_decides_what_is_shown(school: BadgeSchool) -> None:
    credential = await school.issue()
    path = f"/api/v1/credentials/{credential.id}/sharing"
    body = {"showsName": False, "isListed": True}
    for caller, status in (
        ("learner:bo", 404),
        ("manager:boss", 404),
        ("operator", 403),
        ("facilitator:ada", 200),  # who teaches learns, too
        ("manager:ada", 200),
        ("learner:ada", 200),
    ):
        answer = await school.http.put(path, json=body, headers=as_(caller))
        assert answer.status_code == status, answer.text
    assert (await school.http.get(path, headers=as_("learner:ada"))).json() == body
    assert (await school.http.put(path, json=body)).status_code == 401


async def test_an_erased_learners_credential_is_gone(school: BadgeSchool) -> None:
    credential = await school.issue()
    document = await get(school, f"/credentials/{credential.id}.json")
    await PERSONAL_DATA.erase(school.db, "ada", "admin")
    for form in ("json", "jwt"):
        answer = await school.http.get(f"/credentials/{credential.id}.{form}")
        assert (answer.status_code, answer.json()["code"]) == (410, "gone")
    assert not await is_status_set(school, document)
    unknown = await school.http.get("/credentials/AAAAAAAAAAAAAAAAAAAAAAAA.json")
    assert unknown.status_code == 404
