"""Identity of the caller, and the roles that a route requires."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Header, Request

from homeroom.db.personal_data import Relations
from homeroom.errors import Forbidden
from homeroom.identity import Identity, Role
from homeroom.web.people_scope import ALL_PEOPLE_ROLES, PeopleScope

SESSION_COOKIE = "homeroom_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
IDENTITY_SCOPE_KEY = "homeroom.identity"
"""Scope key: the subject of the caller for the access log, set once the token was checked."""


def check_same_origin(request: Request) -> None:
    """Raise ``Forbidden`` if a page of another origin sent the session cookie.

    ``SameSite=Strict`` alone allows other ports of the same host.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    foreign_site = site is not None and site not in {"same-origin", "none"}
    foreign_origin = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign_site or (site is None and foreign_origin):
        raise Forbidden(
            "Changes with a session cookie are accepted from Homeroom's own pages only."
        )


Identify = Callable[[str | None, str | None], Awaitable[Identity]]
"""Check an Authorization header and a session cookie; raise ``Unauthenticated``."""


class Auth:
    """Dependencies for identity and roles, and the people whom a caller may see."""

    def __init__(self, identify: Identify, relations: Relations | None = None) -> None:
        """Use the function that checks a header and a cookie.

        ``relations`` select a manager's people; without them a manager sees itself alone.
        """
        self.identify = identify
        self.relations: Relations = {} if relations is None else relations

    def people(self, identity: Identity, wide: Sequence[Role] = ALL_PEOPLE_ROLES) -> PeopleScope:
        """Return the people whose records a caller may see; the roles ``wide`` see all."""
        return PeopleScope(identity, self.relations, wide)

    def require(self, *roles: Role) -> Callable[..., Awaitable[Identity]]:
        """Return a FastAPI dependency: the identity, if it holds one of the roles."""

        async def allowed(
            request: Request, authorization: Annotated[str | None, Header()] = None
        ) -> Identity:
            identity = await self.identify(authorization, request.cookies.get(SESSION_COOKIE))
            request.scope[IDENTITY_SCOPE_KEY] = identity.subject
            if identity.is_session and request.method not in SAFE_METHODS:
                check_same_origin(request)
            identity.require(*roles)
            return identity

        return allowed
