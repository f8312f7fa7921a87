"""Open Badges 3.0 documents: credential, issuer, keys, status list (pure).

The rules are those of the specification (https://www.imsglobal.org/spec/ob/v3p0/) in its form for
the Verifiable Credentials Data Model 2.0: sets are arrays, nulls and empty arrays are left out.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from homeroom.instant import SECOND

CREDENTIALS_CONTEXT = "https://www.w3.org/ns/credentials/v2"
OPEN_BADGES_CONTEXT = "https://purl.imsglobal.org/spec/ob/v3p0/context-3.0.3.json"
_DID_CONTEXT = "https://www.w3.org/ns/did/v1"
_MULTIKEY_CONTEXT = "https://w3id.org/security/multikey/v1"
STATUS_LIST_BITS = 131_072
"""The least that Bitstring Status List allows, so that one bit singles out no learner."""
_SCATTER = 48_271
"""Any odd number: neighbours in time do not become neighbours in the list."""


@dataclass(frozen=True, slots=True)
class IssuerProfile:
    """The issuer as credentials name it; ``base_url`` has no slash at its end."""

    base_url: str
    name: str
    url: str | None = None
    email: str | None = None

    @property
    def id(self) -> str:
        """Return the URL that identifies the issuer and shows its profile."""
        return f"{self.base_url}/issuer/profile"

    def credential_url(self, id: str) -> str:
        """Return the URL of a credential: its id in documents, and its page."""
        return f"{self.base_url}/credentials/{id}"

    def status_list_url(self, number: int) -> str:
        """Return the URL of a status list, counted from 1."""
        return f"{self.base_url}/issuer/status/{number}"

    def key_url(self, key_id: str) -> str:
        """Return the URL of a public key as a Multikey, which Data Integrity proofs name."""
        return f"{self.base_url}/issuer/keys/{key_id}"

    def jwk_url(self, key_id: str) -> str:
        """Return the URL of a public key as a JWK, which is the ``kid`` of a JWS."""
        return f"{self.base_url}/issuer/keys/{key_id}/jwk"


@dataclass(frozen=True, slots=True)
class BadgeContent:
    """The content of a credential. Instants are microseconds UTC."""

    id: str
    subject_id: str
    achievement_id: str
    title: str
    criteria: str
    valid_from: int
    valid_until: int | None
    status_number: int
    """Counted from 1 over all status lists."""
    identity: str
    """The e-mail address in lower case, or the learner's id; only its salted hash is published."""
    is_email: bool
    salt: str
    evidence: tuple[tuple[str, str], ...] = ()
    """Name and text of each part that the school publishes."""
    achievement_type: Literal["Course", "Achievement"] = "Course"
    description: str | None = None
    """What was achieved; None: the course was completed."""


def whole_seconds(instant: int) -> str:
    """Return an instant as RFC 3339 without fractions, as a JWT's dates are."""
    moment = datetime.fromtimestamp(instant // SECOND, UTC)
    return moment.isoformat().removesuffix("+00:00") + "Z"


def status_place(number: int) -> tuple[int, int]:
    """Return list (from 1) and index in it (from 0) of a status number (from 1)."""
    before = number - 1
    return (
        before // STATUS_LIST_BITS + 1,
        (before * _SCATTER + _SCATTER) % STATUS_LIST_BITS,
    )


def issuer_object(profile: IssuerProfile) -> dict[str, Any]:
    """Return the issuer as it stands in a credential."""
    fields = {
        "id": profile.id,
        "type": ["Profile"],
        "name": profile.name,
        "url": profile.url,
        "email": profile.email,
    }
    return {name: value for name, value in fields.items() if value is not None}


def badge_document(profile: IssuerProfile, content: BadgeContent) -> dict[str, Any]:
    """Return an ``AchievementCredential`` without its proof."""
    list_number, index = status_place(content.status_number)
    list_url = profile.status_list_url(list_number)
    hashed = hashlib.sha256((content.identity + content.salt).encode()).hexdigest()
    document: dict[str, Any] = {
        "@context": [CREDENTIALS_CONTEXT, OPEN_BADGES_CONTEXT],
        "id": profile.credential_url(content.id),
        "type": ["VerifiableCredential", "OpenBadgeCredential"],
        "name": content.title,
        "issuer": issuer_object(profile),
        "validFrom": whole_seconds(content.valid_from),
        "awardedDate": whole_seconds(content.valid_from),
        "credentialSubject": {
            "id": content.subject_id,
            "type": ["AchievementSubject"],
            "identifier": [
                {
                    "type": "IdentityObject",
                    "hashed": True,
                    "identityHash": f"sha256${hashed}",
                    "identityType": "emailAddress" if content.is_email else "sourcedId",
                    "salt": content.salt,
                }
            ],
            "achievement": {
                "id": content.achievement_id,
                "type": ["Achievement"],
                "achievementType": content.achievement_type,
                "name": content.title,
                "description": content.description
                or f"The holder has completed the course {content.title}.",
                "criteria": {"narrative": content.criteria},
            },
        },
        "credentialStatus": {
            "id": f"{list_url}#{index}",
            "type": "BitstringStatusListEntry",
            "statusPurpose": "revocation",
            "statusListIndex": str(index),
            "statusListCredential": list_url,
        },
    }
    if content.valid_until is not None:
        document["validUntil"] = whole_seconds(content.valid_until)
    if content.evidence:
        document["evidence"] = [
            {"type": ["Evidence"], "name": name, "narrative": text}
            for name, text in content.evidence
        ]
    return document


def encode_status_list(indexes: Iterable[int]) -> str:
    """Return the set bits of a status list, compressed, as multibase base64url.

    Bit 0 is the highest of the first byte. The same bits always give the same text.
    """
    bits = bytearray(STATUS_LIST_BITS // 8)
    for index in indexes:
        bits[index // 8] |= 0x80 >> (index % 8)
    packed = gzip.compress(bytes(bits), mtime=0)
    return "u" + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def status_list_document(
    profile: IssuerProfile, number: int, indexes: Iterable[int], changed_at: int
) -> dict[str, Any]:
    """Return the ``BitstringStatusListCredential`` of a list, without its proof.

    ``changed_at`` is the instant of its last change, so that the same list is the same document.
    """
    url = profile.status_list_url(number)
    return {
        "@context": [CREDENTIALS_CONTEXT],
        "id": url,
        "type": ["VerifiableCredential", "BitstringStatusListCredential"],
        "issuer": profile.id,
        "validFrom": whole_seconds(changed_at),
        "credentialSubject": {
            "id": f"{url}#list",
            "type": "BitstringStatusList",
            "statusPurpose": "revocation",
            "encodedList": encode_status_list(indexes),
        },
    }


def multikey_document(profile: IssuerProfile, key_id: str, multikey: str) -> dict[str, Any]:
    """Return a public key as a verification method that stands alone."""
    return {"@context": _MULTIKEY_CONTEXT, **_verification_method(profile, key_id, multikey)}


def profile_document(profile: IssuerProfile, keys: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the issuer's profile with all its keys, given as (id, Multikey).

    It is the controller document of the keys. The context of DIDs comes first: verifiers then read
    ``assertionMethod`` as it is, without other contexts.
    """
    methods = [_verification_method(profile, id, multikey) for id, multikey in keys]
    return {
        "@context": [_DID_CONTEXT, _MULTIKEY_CONTEXT, OPEN_BADGES_CONTEXT],
        **issuer_object(profile),
        "verificationMethod": methods,
        "assertionMethod": [method["id"] for method in methods],
    }


def _verification_method(profile: IssuerProfile, key_id: str, multikey: str) -> dict[str, Any]:
    return {
        "id": profile.key_url(key_id),
        "type": "Multikey",
        "controller": profile.id,
        "publicKeyMultibase": multikey,
    }
