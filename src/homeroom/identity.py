"""The caller of a request, and the roles that a caller may have (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from homeroom.errors import Forbidden


class Role(StrEnum):
    """The roles of docs/security.md; each route declares the roles that may use it."""

    LEARNER = "learner"
    FACILITATOR = "facilitator"
    MANAGER = "manager"
    AUTHOR = "author"
    OPERATOR = "operator"
    VIEWER = "viewer"
    SERVICE = "service"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A caller whose token was checked: a user id (JWT) or the name of an API key.

    One object stands for one check of a token, and is hashed and compared as that object.
    """

    subject: str
    roles: frozenset[Role]
    via: Literal["key", "jwt", "session"]
    """Only the subject of a JWT is a learner's id."""
    key_id: str | None = None
    """The API key behind it, if there is one; for the admin key and for the session of a JWT a mark
    of its own."""
    expires_at: float | None = None
    """When the token ends, in seconds since 1970; None for a token without an end."""
    no_role_reason: str | None = None
    """Why a JWT has no role: names the claim and never its content."""

    @property
    def is_session(self) -> bool:
        """Return whether a cookie identified the caller, and no token."""
        return self.via == "session" or (self.via == "jwt" and self.key_id is not None)

    def has(self, *roles: Role) -> bool:
        """Return whether one of the roles is held; an admin holds all."""
        return Role.ADMIN in self.roles or not self.roles.isdisjoint(roles)

    def require(self, *roles: Role) -> None:
        """Raise ``Forbidden`` unless one of the roles is held.

        The problem has the roles that are held and those that are expected.
        """
        if self.has(*roles):
            return
        expected = ", ".join(roles)
        if self.no_role_reason is not None:
            message = (
                f"Your token has no role: {self.no_role_reason}. This needs one of: {expected}."
            )
            hint = (
                "Name the claim in HOMEROOM_JWT_ROLES_CLAIM and its words in HOMEROOM_JWT_ROLE_MAP;"
                " docs/tokens.md has examples."
            )
        else:
            held = ", ".join(sorted(self.roles)) or "none"
            message = f"Your role may not do this. You hold: {held}. It needs one of: {expected}."
            hint = None
        raise Forbidden(
            message, hint=hint, details={"held": sorted(self.roles), "expected": list(roles)}
        )

    def is_learner(self, user_id: str) -> bool:
        """Return whether this identity is that very learner."""
        return self.via == "jwt" and self.subject == user_id


def parse_roles(words: object) -> frozenset[Role]:
    """Return the roles that a list of words names; other words and types are ignored."""
    names = words if isinstance(words, list | tuple | set | frozenset) else ()
    return frozenset(_ROLES[word] for word in names if isinstance(word, str) and word in _ROLES)


_ROLES = {role.value: role for role in Role}
