"""Sign JWTs with the configured secret."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import jwt

from homeroom.access.role_claim import RoleClaim
from homeroom.clock import Clock
from homeroom.identity import Role
from homeroom.instant import SECOND


def mint_token(
    secret: str,
    user_id: str,
    role: Role,
    lifetime: timedelta,
    *,
    role_claim: RoleClaim,
    issuer: str | None = None,
    audience: str | None = None,
) -> str:
    """Return a user's HS256 token for a ``JwtVerifier`` of the same values.

    Raises ``ValueError`` if no word of the claim stands for the role. The end counts by the real
    clock, as at the verifier.
    """
    now = Clock().now() // SECOND
    claims: dict[str, Any] = {
        "sub": user_id,
        "iat": now,
        "exp": now + int(lifetime.total_seconds()),
    }
    for name, value in (("iss", issuer), ("aud", audience)):
        if value is not None:
            claims[name] = value
    role_claim.add_to(claims, role)
    return jwt.encode(claims, secret, "HS256")
