"""Verification of logout tokens.

The rules are those of OpenID Connect Back-Channel Logout 1.0, section 2.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import jwt
from jwt.types import Options

from homeroom.access.jwks import ALLOWED_ALGORITHMS, Jwks
from homeroom.clock import Clock
from homeroom.errors import BadRequest, Unauthenticated
from homeroom.instant import SECOND

LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
CLOCK_LEEWAY_SECONDS = 30
MAX_AGE_SECONDS = 600
"""Older tokens are refused, also without ``exp``, which former drafts did not ask for."""
_REAL_CLOCK = Clock()
_OPTIONS: Final[Options] = {"require": ["iss", "aud", "iat"]}


@dataclass(frozen=True, slots=True)
class EndedSession:
    """The session at the provider that ended, or a person all of whose sessions did."""

    session: str | None
    """The claim ``sid``; None for all sessions of the subject."""
    subject: str | None


async def verify_logout_token(
    token: str, jwks: Jwks, *, issuer: str, client_id: str
) -> EndedSession:
    """Return what a logout token ends; raise ``BadRequest`` unless it is valid.

    A token may come twice: what has ended cannot end again, so ``jti`` is not kept. Raises
    ``Unavailable`` if no key of the provider was ever fetched.
    """
    try:
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in ALLOWED_ALGORITHMS:
            raise _invalid("it is signed by an algorithm without a public key")
        kid = header.get("kid")
        key = await jwks.key(kid if isinstance(kid, str) else None)
        claims = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            audience=client_id,
            issuer=issuer,
            leeway=CLOCK_LEEWAY_SECONDS,
            options=_OPTIONS,
        )
    except Unauthenticated as error:
        raise _invalid("it is signed with a key that the provider does not have") from error
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise _invalid(f"its check failed ({type(error).__name__})") from error
    return _ended_session(claims)


def _ended_session(claims: dict[str, Any]) -> EndedSession:
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise _invalid("the claim `events` does not name a sign-out")
    if "nonce" in claims:  # an ID token, which anyone who signs in has
        raise _invalid("it has the claim `nonce`")
    if _REAL_CLOCK.now() // SECOND - claims["iat"] > MAX_AGE_SECONDS:
        raise _invalid("it is older than ten minutes")
    session, subject = claims.get("sid"), claims.get("sub")
    if not all(each is None or isinstance(each, str) for each in (session, subject)):
        raise _invalid("the claims `sid` and `sub` are texts")
    if not session and not subject:
        raise _invalid("it has neither `sid` nor `sub`")
    return EndedSession(session or None, subject or None)


def _invalid(detail: str) -> BadRequest:
    return BadRequest(f"The logout token is not valid: {detail}.")
