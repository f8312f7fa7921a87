"""Ed25519 keys, compact JWS, and Data Integrity proofs (``eddsa-rdfc-2022``)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from homeroom.credentials.open_badges.badge_document import IssuerProfile
from homeroom.errors import ConfigurationError

HashForProof = Callable[[Mapping[str, Any], Mapping[str, Any]], Awaitable[bytes]]
"""Returns what the proof of a document signs (``proof_hash.hash_for_proof``)."""
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ED25519_PUBLIC = b"\xed\x01"
"""The multicodec prefix of an Ed25519 public key."""
_KEY_ID_CHARACTERS = 22
"""128 bits of the key's thumbprint (RFC 7638)."""
_PROOF_OPTIONS = ("type", "cryptosuite", "created", "verificationMethod", "proofPurpose")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the id that its documents name."""

    id: str
    private: Ed25519PrivateKey

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> SigningKey:
        """Return a key with the id that follows from it."""
        return cls(key_id(private.public_key().public_bytes_raw()), private)

    @property
    def public_bytes(self) -> bytes:
        """Return the 32 bytes of the public key."""
        return self.private.public_key().public_bytes_raw()


def read_key_file(text: bytes) -> SigningKey:
    """Return the key of a PEM file (PKCS 8); raise ``ConfigurationError``."""
    try:
        private = load_pem_private_key(text, None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigurationError(
            "HOMEROOM_CREDENTIAL_KEY_FILE holds no Ed25519 private key in PEM form.",
            hint="Make one with: openssl genpkey -algorithm ed25519",
        )
    return SigningKey.of(private)


def public_jwk(public: bytes) -> dict[str, str]:
    """Return a public key as the members of a JWK that its thumbprint covers."""
    return {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public)}


def key_id(public: bytes) -> str:
    """Return the id of a public key: the beginning of its thumbprint."""
    members = json.dumps(public_jwk(public), separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(members.encode()).digest())[:_KEY_ID_CHARACTERS]


def multikey(public: bytes) -> str:
    """Return a public key in the form of ``publicKeyMultibase``."""
    return "z" + _encode_base58(_ED25519_PUBLIC + public)


def sign_jws(document: Mapping[str, Any], profile: IssuerProfile, key: SigningKey) -> str:
    """Return a credential as a compact JWS with the claims of Open Badges."""
    claims = {
        **document,
        "iss": profile.id,
        "jti": document["id"],
        "sub": document["credentialSubject"]["id"],
        "nbf": _epoch(document["validFrom"]),
    }
    if "validUntil" in document:
        claims["exp"] = _epoch(document["validUntil"])
    headers = {"kid": profile.jwk_url(key.id), "typ": "JWT"}
    return jwt.encode(claims, key.private, algorithm="EdDSA", headers=headers)


async def add_proof(
    document: Mapping[str, Any],
    profile: IssuerProfile,
    key: SigningKey,
    created: str,
    hash_for_proof: HashForProof,
) -> dict[str, Any]:
    """Return a document with its ``DataIntegrityProof``.

    ``created`` is RFC 3339. The same document, key and date give the same proof.
    """
    proof = {
        "type": "DataIntegrityProof",
        "cryptosuite": "eddsa-rdfc-2022",
        "created": created,
        "verificationMethod": profile.key_url(key.id),
        "proofPurpose": "assertionMethod",
    }
    signature = key.private.sign(await hash_for_proof(document, proof))
    return {**document, "proof": {**proof, "proofValue": "z" + _encode_base58(signature)}}


async def has_valid_proof(
    signed: Mapping[str, Any], public: bytes, hash_for_proof: HashForProof
) -> bool:
    """Return whether a document's Data Integrity proof was made with this key."""
    document = {name: value for name, value in signed.items() if name != "proof"}
    try:
        proof = {name: signed["proof"][name] for name in _PROOF_OPTIONS}
        signature = _decode_base58(str(signed["proof"]["proofValue"]).removeprefix("z"))
        data = await hash_for_proof(document, proof)
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, KeyError, TypeError, ValueError):
        return False
    return True


def _epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _encode_base58(data: bytes) -> str:
    number, text = int.from_bytes(data), ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def _decode_base58(text: str) -> bytes:
    number = 0
    for letter in text:
        number = number * 58 + _BASE58.index(letter)
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8)
