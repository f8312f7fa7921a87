"""An independent verifier, Digital Bazaar's in Node, reads what this installation publishes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from tests.support.api_client import as_
from tests.support.badge_school import BASE_URL, COMPLETED_AT, PROFILE, badge_school
from tests.support.credential_verifier import verify

from homeroom.credentials.open_badges.badge_document import OPEN_BADGES_CONTEXT, whole_seconds
from homeroom.credentials.open_badges.proof_hash import read_context
from homeroom.credentials.open_badges.proof_hasher import ProofHasher
from homeroom.credentials.open_badges.signing import add_proof
from homeroom.db.database import Database

pytestmark = [pytest.mark.anyio, pytest.mark.service]
NOW = "2026-12-01T09:00:00Z"


async def test_an_independent_verifier_accepts_and_refuses(
    sqlite: Database, verifier: Path
) -> None:
    async with badge_school(sqlite) as school:
        valid = await school.issue("ada")
        await school.issuer.rotate_key("cli:test")
        revoked = await school.issue("bo")
        path = f"/api/v1/credentials/{revoked.id}/revoke"
        await school.http.post(path, json={"reason": "a mistake"}, headers=as_("operator"))

        async def get(url: str) -> Any:
            return (await school.http.get(url.removeprefix(BASE_URL))).json()

        documents = {
            url: await get(url)
            for url in (f"{BASE_URL}/issuer/profile", f"{BASE_URL}/issuer/status/1")
        }
        for url in documents[f"{BASE_URL}/issuer/profile"]["assertionMethod"]:
            documents[url] = await get(url)
        signed = [await get(f"/credentials/{each.id}.json") for each in (valid, revoked)]
        async with sqlite.write() as tx:
            key = await school.issuer.signing_key(tx)
    documents[OPEN_BADGES_CONTEXT] = read_context(OPEN_BADGES_CONTEXT)
    changed = copy.deepcopy(signed[0])
    changed["credentialSubject"]["achievement"]["name"] = "Another course"
    expired = {name: value for name, value in signed[0].items() if name != "proof"}
    expired |= {"validFrom": "2001-01-01T00:00:00Z", "validUntil": "2002-01-01T00:00:00Z"}
    hasher = ProofHasher()
    expired = await add_proof(expired, PROFILE, key, whole_seconds(COMPLETED_AT), hasher.hash)
    await hasher.close()
    results = verify(verifier, [*signed, changed, expired], documents, NOW)
    # The packages call a revoked credential verified: its status is a result of its own.
    assert results[:2] == [
        {"verified": True, "revoked": [False], "errors": []},
        {"verified": True, "revoked": [True], "errors": []},
    ]
    assert (results[2]["verified"], results[2]["errors"]) == (False, ["Invalid signature."])
    assert results[3]["verified"] is False
    assert "validUntil" in results[3]["errors"][0]
