"""What other rooms, the CLI and ``wiring`` may use of ``access``."""

from homeroom.access.jwks import Jwks
from homeroom.access.personal import PERSONAL
from homeroom.access.principal import ROLES, Principal
from homeroom.access.store import (
    ApiKey,
    create_key,
    first_sign_in,
    list_keys,
    make_sign_in,
    prune,
    record,
    revoke_key,
)
from homeroom.access.verify import CACHE_SECONDS, Access, JwtVerifier

__all__ = [
    "CACHE_SECONDS",
    "PERSONAL",
    "ROLES",
    "Access",
    "ApiKey",
    "Jwks",
    "JwtVerifier",
    "Principal",
    "create_key",
    "first_sign_in",
    "list_keys",
    "make_sign_in",
    "prune",
    "record",
    "revoke_key",
]
