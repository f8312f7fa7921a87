"""Verification of ID tokens (OpenID Connect Core, section 3.1.3.7).

It needs the extra ``oidc``.
"""

from __future__ import annotations

from typing import Any, Final

import jwt
from authlib.oidc.core import CodeIDToken
from joserfc.errors import ClaimError, JoseError
from jwt.types import Options

from homeroom.access.jwks import ALLOWED_ALGORITHMS, Jwks
from homeroom.access.sign_in_failure import SignInFailure, SignInFailureCode
from homeroom.clock import Clock
from homeroom.errors import Unauthenticated, Unavailable
from homeroom.instant import SECOND

CLOCK_LEEWAY_SECONDS = 30
_TIME_CLAIMS: Final = frozenset({"exp", "iat", "nbf"})
_SIGNATURE_ONLY: Final[Options] = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
_REAL_CLOCK = Clock()
"""Providers use real time, even where Homeroom's clock is moved for a demo."""


async def verify_id_token(
    token: str,
    jwks: Jwks,
    *,
    issuer: str,
    client_id: str,
    nonce: str,
    access_token: str | None,
) -> dict[str, Any]:
    """Return the claims of an ID token; raise ``SignInFailure`` unless it is valid.

    The key decides the algorithm, never the token. PyJWT checks the signature, as for other JWTs,
    and authlib the claims: issuer, audience, authorized party, nonce, times, access token.
    """
    header, claims = await _verify_signature(token, jwks)
    id_token = CodeIDToken(
        claims,
        header,
        {
            "iss": {"essential": True, "value": issuer},
            "aud": {"essential": True, "value": client_id},
        },
        {"client_id": client_id, "nonce": nonce, "access_token": access_token},
    )
    try:
        id_token.validate(_REAL_CLOCK.now() // SECOND, CLOCK_LEEWAY_SECONDS)
    except ClaimError as error:
        if error.claim in _TIME_CLAIMS and isinstance(claims.get(error.claim), int | float):
            raise SignInFailure(
                SignInFailureCode.CLOCKS_DIFFER, f"the ID token's `{error.claim}` is out of range"
            ) from error
        raise _invalid(f"the ID token's claim `{error.claim}` is missing or wrong") from error
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _invalid("the ID token's claims cannot be read") from error
    return claims


async def _verify_signature(token: str, jwks: Jwks) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a token that a key of the provider has signed."""
    try:
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in ALLOWED_ALGORITHMS:
            raise _invalid("the ID token is signed by an algorithm without a public key")
        kid = header.get("kid")
        key = await jwks.key(kid if isinstance(kid, str) else None)
        claims = jwt.decode(token, key, algorithms=[key.algorithm_name], options=_SIGNATURE_ONLY)
    except Unavailable as error:
        raise SignInFailure(
            SignInFailureCode.PROVIDER_UNAVAILABLE, "the provider's keys cannot be fetched"
        ) from error
    except Unauthenticated as error:
        raise _invalid(
            "the ID token is signed with a key that the provider does not have"
        ) from error
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise _invalid("the ID token's signature does not match") from error
    return header, claims


def _invalid(detail: str) -> SignInFailure:
    return SignInFailure(SignInFailureCode.TOKEN_INVALID, detail)
