"""The examples of docs/sign-in.md: their settings accept ID tokens in their form."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.support.code_blocks import ROOT, blocks
from tests.support.key_server import KeyServer

from homeroom.access.api import Jwks
from homeroom.access.id_token import verify_id_token
from homeroom.access.role_claim import find_claim
from homeroom.access.sign_in_failure import SignInFailure, SignInFailureCode
from homeroom.bootstrap.tokens import build_role_claim
from homeroom.identity import Role
from homeroom.settings import find_setting_problems, load

_PAGE = ROOT / "docs" / "sign-in.md"
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def examples() -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    """Return the settings and the claims that follow them, by issuer."""
    found: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}
    for setting, claims in pairwise(blocks(_PAGE)):
        if (setting.language, claims.language) == ("env", "json"):
            pairs = dict(line.split("=", 1) for line in setting.text.splitlines() if line)
            found[pairs["HOMEROOM_OIDC_ISSUER"]] = (pairs, json.loads(claims.text))
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("issuer", examples())
async def test_the_settings_of_an_example_sign_its_person_in(
    issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, claims = examples()[issuer]
    for name, value in shown.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert find_setting_problems(settings) == []
    assert settings.oidc_client_id is not None
    later = time.time() - claims["iat"]
    claims |= {name: claims[name] + later for name in ("exp", "iat", "nbf") if name in claims}
    token = jwt.encode({**claims, "nonce": "n"}, _KEY, "RS256", headers={"kid": "k1"})
    server = KeyServer()
    public = jwt.algorithms.RSAAlgorithm.to_jwk(_KEY.public_key(), as_dict=True)
    server.keys = [{**public, "kid": "k1", "use": "sig", "alg": "RS256"}]

    async def verified(nonce: str) -> dict[str, Any]:
        return await verify_id_token(
            token,
            Jwks(server.url),
            issuer=issuer,
            client_id=settings.oidc_client_id or "",
            nonce=nonce,
            access_token=None,
        )

    try:
        found = await verified("n")
        with pytest.raises(SignInFailure):
            await verified("another")
    finally:
        server.close()
    assert find_claim(found, settings.oidc_user_claim) == claims.get("oid", claims["sub"])
    roles, _ = build_role_claim(settings, settings.oidc_roles_claim).roles_of(found)
    assert roles == {Role.FACILITATOR}


def test_every_code_of_a_failure_is_on_the_page_with_its_status() -> None:
    text = _PAGE.read_text(encoding="utf-8")
    for code in SignInFailureCode:
        assert f"| `{code}` | {SignInFailure(code, '').status} |" in text
