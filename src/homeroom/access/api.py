"""Public interface of access: identities, API keys, sign-ins, the audit trail."""

from homeroom.access.authenticator import CACHE_SECONDS, Authenticator, JwtVerifier
from homeroom.access.jwks import Jwks
from homeroom.access.minting import mint_token
from homeroom.access.role_claim import RoleClaim
from homeroom.access.store import PERSONAL as PERSONAL_IN_AUDIT
from homeroom.access.store import (
    ApiKey,
    check_key_roles,
    create_first_sign_in,
    create_key,
    create_sign_in,
    list_keys,
    prune,
    record_audit,
    record_audits,
    revoke_key,
)
from homeroom.access.stream_ticket import PERSONAL as PERSONAL_IN_TICKETS
from homeroom.access.stream_ticket import redeem_stream_ticket

PERSONAL = (*PERSONAL_IN_AUDIT, *PERSONAL_IN_TICKETS)

__all__ = [
    "CACHE_SECONDS",
    "PERSONAL",
    "ApiKey",
    "Authenticator",
    "Jwks",
    "JwtVerifier",
    "RoleClaim",
    "check_key_roles",
    "create_first_sign_in",
    "create_key",
    "create_sign_in",
    "list_keys",
    "mint_token",
    "prune",
    "record_audit",
    "record_audits",
    "redeem_stream_ticket",
    "revoke_key",
]
