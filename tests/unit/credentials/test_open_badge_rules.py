"""Documents follow the rules of Open Badges 3.0 and of Bitstring Status List.

The JSON schemas of 1EdTech are in no package, so what they ask of an ``AchievementCredential`` in
its form for VC 2.0 is written down here: what has to be there, of which form, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeroom.credentials.open_badges import signing
from homeroom.credentials.open_badges.badge_document import (
    STATUS_LIST_BITS,
    BadgeContent,
    IssuerProfile,
    badge_document,
    status_place,
)
from homeroom.credentials.open_badges.baking import bake_png, bake_svg
from homeroom.credentials.open_badges.proof_hash import hash_for_proof
from homeroom.errors import ConfigurationError

PROFILE = IssuerProfile("https://school.example", "Example School", None, None)
CONTENT = BadgeContent(
    id="4fTzq0bW1mUuYQ2yqkN8Qw7e",
    subject_id="urn:uuid:0199c0de-7a3b-5c11-9f7e-2f60b1a2c3d4",
    achievement_id="urn:uuid:0199c0de-7a3b-5c11-9f7e-2f60b1a2c3d5",
    title="Data for everyone",
    criteria="Complete the course.",
    valid_from=1_795_338_000_123_456,
    valid_until=1_826_874_000_123_456,
    status_number=1,
    identity="ada@example.org",
    is_email=True,
    salt="salt",
    evidence=(("Score", "87.5 %"),),
)
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_URI = re.compile(r"(https://|urn:uuid:)\S+")
# A required name ends with an exclamation mark; a rule is a pattern, a literal, a list of one rule
# for all items, or the rules of an object, in which no other name may be.
RULES: dict[str, Any] = {
    "@context!": (
        "https://www.w3.org/ns/credentials/v2",
        "https://purl.imsglobal.org/spec/ob/v3p0/context-3.0.3.json",
    ),
    "id!": _URI,
    "type!": ("VerifiableCredential", "OpenBadgeCredential"),
    "name!": str,
    "issuer!": {"id!": _URI, "type!": ("Profile",), "name!": str, "url": _URI, "email": str},
    "validFrom!": _DATE,
    "validUntil": _DATE,
    "awardedDate": _DATE,
    "credentialSubject!": {
        "id!": _URI,
        "type!": ("AchievementSubject",),
        "identifier": [
            {
                "type!": re.compile("IdentityObject"),
                "hashed!": bool,
                "identityHash!": re.compile(r"sha256\$[0-9a-f]{64}"),
                "identityType!": re.compile("emailAddress|sourcedId"),
                "salt": str,
            }
        ],
        "achievement!": {
            "id!": _URI,
            "type!": ("Achievement",),
            "achievementType": re.compile("Course|Achievement"),
            "criteria!": {"narrative!": str},
            "description!": str,
            "name!": str,
        },
    },
    "evidence": [{"type!": ("Evidence",), "name": str, "narrative": str}],
    "credentialStatus": {
        "id!": _URI,
        "type!": re.compile("BitstringStatusListEntry"),
        "statusPurpose!": re.compile("revocation"),
        "statusListIndex!": re.compile(r"\d+"),
        "statusListCredential!": _URI,
    },
    "proof": {
        "type!": re.compile("DataIntegrityProof"),
        "cryptosuite!": re.compile("eddsa-rdfc-2022"),
        "created!": _DATE,
        "verificationMethod!": _URI,
        "proofPurpose!": re.compile("assertionMethod"),
        "proofValue!": re.compile(r"z[1-9A-HJ-NP-Za-km-z]{80,90}"),
    },
}


def faults(value: Any, rule: Any, where: str = "") -> list[str]:
    """Return where a value breaks a rule."""
    if isinstance(rule, dict):
        if not isinstance(value, dict):
            return [where]
        names = {name.rstrip("!") for name in rule}
        found = [f"{where}/{name} is unknown" for name in value if name not in names]
        for name, inner in rule.items():
            plain = name.rstrip("!")
            if plain in value:
                found += faults(value[plain], inner, f"{where}/{plain}")
            elif name.endswith("!"):
                found.append(f"{where}/{plain} is missing")
        return found
    if isinstance(rule, list):
        if not isinstance(value, list) or not value:
            return [where]
        return [hit for each in value for hit in faults(each, rule[0], where)]
    if isinstance(rule, tuple):
        return [] if value == list(rule) else [where]
    if isinstance(rule, re.Pattern):
        return [] if isinstance(value, str) and rule.fullmatch(value) else [where]
    return [] if isinstance(value, rule) and value != "" else [where]


@pytest.fixture(scope="module")
def key() -> signing.SigningKey:
    return signing.SigningKey.of(Ed25519PrivateKey.generate())


async def hash_here(document: Mapping[str, Any], options: Mapping[str, Any]) -> bytes:
    return hash_for_proof(document, options)


async def signed_document(key: signing.SigningKey) -> dict[str, Any]:
    document = badge_document(PROFILE, CONTENT)
    return await signing.add_proof(document, PROFILE, key, "2026-11-22T09:00:00Z", hash_here)


@pytest.mark.anyio
async def test_a_signed_document_follows_the_rules(key: signing.SigningKey) -> None:
    signed = await signed_document(key)
    assert faults(signed, RULES) == []
    assert faults({**signed, "evidence": []}, RULES) == ["/evidence"]
    assert await signing.has_valid_proof(signed, key.public_bytes, hash_here)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "change",
    [
        {"name": "Another"},
        {"validUntil": "2099-01-01T00:00:00Z"},
        {"@context": ["https://www.w3.org/ns/credentials/v2"]},
        {"@context": ["https://evil.example/context"]},
        {"proof": {"proofValue": "z0"}},
        {"proof": None},
    ],
    ids=str,
)
async def test_a_changed_document_has_no_valid_proof(
    key: signing.SigningKey, change: dict[str, Any]
) -> None:
    signed = await signed_document(key)
    proof = change.get("proof", {})
    changed = {**signed, **change, "proof": proof and {**signed["proof"], **proof}}
    if "proof" not in change:
        changed["proof"] = signed["proof"]
    assert not await signing.has_valid_proof(changed, key.public_bytes, hash_here)


def test_each_number_has_a_place_of_its_own() -> None:
    places = {status_place(number) for number in range(1, 2 * STATUS_LIST_BITS + 1)}
    assert len(places) == 2 * STATUS_LIST_BITS
    assert {list_number for list_number, _ in places} == {1, 2}
    assert all(0 <= index < STATUS_LIST_BITS for _, index in places)


def test_a_public_key_is_written_as_the_suite_writes_it() -> None:
    """The key pair of appendix A of the suite's specification."""
    private = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("c96ef9ea10c5e414c471723aff9de72c35fa5b70fae97e8832ecac7d2e2b8ed6")
    )
    key = signing.SigningKey.of(private)
    assert signing.multikey(key.public_bytes) == "z6MkrJVnaZkeFzdQyMZu1cgjg7k1pZZ6pvBQ7XJPt4swbTQ2"


@pytest.mark.parametrize("text", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_key_file_of_another_kind_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigurationError):
        signing.read_key_file(text)


def test_only_images_are_baked() -> None:
    with pytest.raises(ValueError, match="PNG"):
        bake_png(b"GIF89a", "a.b.c")
    with pytest.raises(ValueError, match="SVG"):
        bake_svg("<html></html>", "a.b.c")
