"""Who is asking, and what their roles allow; every route declares the roles that may use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Header, Request

from homeroom.errors import Forbidden

SESSION_COOKIE = "homeroom_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
IDENTITY = "homeroom.identity"
"""Scope key: the name of who asks, for the access log; set once the token was checked."""


class Role(StrEnum):
    """The roles of the API page."""

    LEARNER = "learner"
    FACILITATOR = "facilitator"
    MANAGER = "manager"
    AUTHOR = "author"
    OPERATOR = "operator"
    VIEWER = "viewer"
    SERVICE = "service"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody whose token was checked: a user id (JWT) or the name of an API key."""

    subject: str
    roles: frozenset[Role]
    via: str
    """``key``, ``jwt`` or ``session``; only a JWT's subject is a learner's id."""

    def has(self, *roles: Role) -> bool:
        """Say whether one of the roles is held; an admin holds all."""
        return Role.ADMIN in self.roles or not self.roles.isdisjoint(roles)

    def is_person(self, user_id: str) -> bool:
        """Say whether this identity is that very learner."""
        return self.via == "jwt" and self.subject == user_id

    def check_reads(self, user_id: str) -> None:
        """Raise ``Forbidden`` unless this identity may read a learner's records.

        A learner reads its own; the platform's servers and the staff roles read everybody's.
        """
        if not self.is_person(user_id) and not self.has(
            Role.SERVICE, Role.OPERATOR, Role.VIEWER, Role.MANAGER
        ):
            raise Forbidden("These records belong to another person.")


def check_same_origin(request: Request) -> None:
    """Raise ``Forbidden`` if a page of another origin sent this with the browser's cookie.

    ``SameSite=Strict`` alone lets other ports of the same host through.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    foreign_site = site is not None and site not in {"same-origin", "none"}
    foreign_origin = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign_site or (site is None and foreign_origin):
        raise Forbidden("A session may change things from Homeroom's own pages only.")


Identify = Callable[[str | None, str | None], Awaitable[Identity]]
"""Check an Authorization header and a session cookie; raise ``Unauthenticated``."""


class Auth:
    """What routes ask for an identity; built in ``wiring`` with the checks of ``access``."""

    def __init__(self, identify: Identify) -> None:
        """Take the function that checks a header and a cookie."""
        self.identify = identify

    def require(self, *roles: Role) -> Callable[..., Awaitable[Identity]]:
        """Return a FastAPI dependency that yields the identity if it holds one of the roles."""

        async def allowed(
            request: Request, authorization: Annotated[str | None, Header()] = None
        ) -> Identity:
            identity = await self.identify(authorization, request.cookies.get(SESSION_COOKIE))
            request.scope[IDENTITY] = identity.subject
            if identity.via == "session" and request.method not in SAFE_METHODS:
                check_same_origin(request)
            if not identity.has(*roles):
                wanted = ", ".join(roles)
                raise Forbidden(f"Your role may not do this; it needs one of: {wanted}.")
            return identity

        return allowed
