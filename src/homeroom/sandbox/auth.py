"""The keys that a partner asks for."""

from __future__ import annotations

import base64
import binascii
import hmac

from homeroom.sandbox.exchange import Exchange, Refused


def require_bearer(exchange: Exchange, token: str | None) -> None:
    """Check `Authorization: Bearer <token>`; a token of None lets everybody in.

    Raises Refused 401.
    """
    if token is None:
        return
    scheme, _, given = exchange.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not _same(given, token):
        raise Refused(
            401,
            "the bearer token is missing or wrong",
            headers={"www-authenticate": "Bearer"},
        )


def require_basic(exchange: Exchange, token: str) -> None:
    """Check Basic authentication as Credly has it: the token as user, a blank password.

    Raises Refused 401.
    """
    scheme, _, given = exchange.headers.get("authorization", "").partition(" ")
    try:
        pair = base64.b64decode(given, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        pair = ""
    if scheme.lower() != "basic" or not _same(pair, f"{token}:"):
        raise Refused(
            401,
            "Basic authentication wants the token as user and a blank password",
            headers={"www-authenticate": 'Basic realm="sandbox"'},
        )


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
