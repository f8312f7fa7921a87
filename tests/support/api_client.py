"""A client of an application with the routes of some packages, with an identity by header."""

from __future__ import annotations

import httpx
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from homeroom.bootstrap.manager_relations import MANAGER_RELATIONS
from homeroom.errors import HomeroomError, Unauthenticated
from homeroom.identity import Identity, Role
from homeroom.web import problem
from homeroom.web.identity import Auth


async def identify(authorization: str | None, cookie: str | None) -> Identity:
    """Read ``Bearer role`` as an API key, ``Bearer role:user`` as a JWT, a cookie as a role."""
    if authorization is None and cookie is not None:
        return Identity(f"session {cookie}", frozenset({Role(cookie)}), "session")
    words = (authorization or "").removeprefix("Bearer ").split(":")
    if words[0] not in list(Role):
        raise Unauthenticated
    role = Role(words[0])
    if len(words) == 2:
        return Identity(words[1], frozenset({role}), "jwt")
    return Identity(f"key {role}", frozenset({role}), "key")


AUTH = Auth(identify, MANAGER_RELATIONS)


def client(*routers: APIRouter) -> httpx.AsyncClient:
    """Return a client of an application that serves these routes."""
    app = FastAPI()
    for kind in (HomeroomError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, problem.handle_exception)
    for router in routers:
        app.include_router(router)
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://homeroom.test")


def as_(caller: str) -> dict[str, str]:
    """Return the headers of a caller: ``author`` (a key) or ``learner:ada`` (a JWT)."""
    return {"Authorization": f"Bearer {caller}"}
