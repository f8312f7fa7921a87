"""The examples of docs/tokens.md: their settings accept tokens in their form."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from itertools import pairwise
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.support.code_blocks import ROOT, blocks
from tests.support.key_server import KeyServer

from homeroom.bootstrap.tokens import build_jwt_verifier, mint_configured_token
from homeroom.errors import Unauthenticated
from homeroom.identity import Role
from homeroom.settings import load

pytestmark = pytest.mark.anyio
_PAGE = ROOT / "docs" / "tokens.md"
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def examples() -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    """Return the settings and the claims of each section that has both."""
    found: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}
    shown = [block for block in blocks(_PAGE) if block.language in {"env", "json"}]
    lines = _PAGE.read_text(encoding="utf-8").splitlines()
    for setting, claims in pairwise(shown):
        if (setting.language, claims.language) == ("env", "json"):
            [*_, title] = [line for line in lines[: setting.line] if line.startswith("## ")]
            pairs = [line.split("=", 1) for line in setting.text.splitlines() if line]
            found[title.removeprefix("## ")] = (dict(pairs), json.loads(claims.text))
    return found


def lasting(claims: dict[str, Any]) -> dict[str, Any]:
    now = int(time.time())
    return {**claims, "iat": now, "exp": now + 60}


@pytest.mark.parametrize("provider", ["Keycloak", "Auth0"])
async def test_the_settings_of_a_provider_accept_its_tokens(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, claims = examples()[provider]
    public = jwt.algorithms.RSAAlgorithm.to_jwk(_KEY.public_key(), as_dict=True)
    server = KeyServer()
    server.keys = [{**public, "kid": "k1", "use": "sig", "alg": "RS256"}]
    assert settings["HOMEROOM_JWT_JWKS_URL"].startswith("https://")
    try:
        await _accepts(
            server, {**settings, "HOMEROOM_JWT_JWKS_URL": server.url}, claims, monkeypatch
        )
    finally:
        server.close()


async def _accepts(
    server: KeyServer,
    settings: dict[str, str],
    claims: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    verifier = build_jwt_verifier(load())
    assert verifier is not None

    def signed(**changed: Any) -> str:
        return jwt.encode(lasting({**claims, **changed}), _KEY, "RS256", headers={"kid": "k1"})

    identity = await verifier.verify(signed())
    assert (identity.subject, identity.roles) == (claims["sub"], {Role.LEARNER})
    assert server.asked == 1
    with pytest.raises(Unauthenticated):
        await verifier.verify(signed(aud="another"))
    with pytest.raises(Unauthenticated):
        await verifier.verify(signed(iss="https://elsewhere.example/"))
    claim = settings["HOMEROOM_JWT_ROLES_CLAIM"].split(".")[0]
    name = claim if claim in claims else settings["HOMEROOM_JWT_ROLES_CLAIM"]
    without = await verifier.verify(signed(**{name: None}))
    assert not without.roles
    assert "missing" in (without.no_role_reason or "")


async def test_a_minted_token_has_the_shown_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEROOM_JWT_SECRET", "a-secret-of-more-than-thirty-two-bytes!")
    [first, *_] = [block for block in blocks(_PAGE) if block.language == "json"]
    shown = json.loads(first.text)
    settings = load()
    from_page = jwt.encode(lasting(shown), settings.jwt_secret.get_secret_value(), "HS256")  # type: ignore[union-attr]
    verifier = build_jwt_verifier(settings)
    assert verifier is not None
    lifetime = timedelta(hours=1)
    minted = mint_configured_token(settings, "u-1042", Role.LEARNER, lifetime)
    claims = jwt.decode(minted, options={"verify_signature": False})
    assert claims.keys() == shown.keys()
    assert claims["exp"] - claims["iat"] == shown["exp"] - shown["iat"]
    for token in (minted, from_page):
        assert (await verifier.verify(token)).roles == {Role.LEARNER}
