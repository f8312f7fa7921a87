"""Build the application that answers HTTP: FastAPI, and the raw ingest route in front of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from homeroom import __version__
from homeroom.errors import HomeroomError
from homeroom.http.docs_page import add_docs
from homeroom.web.context import QUIET, ROUTE, Observe, RequestContext
from homeroom.web.etag import answer
from homeroom.web.identity import SESSION_COOKIE
from homeroom.web.limits import MAX_BODY_BYTES, BodyLimit
from homeroom.web.problem import MEDIA_TYPE, handle, problem_response

INGEST_PATH = "/api/progress/enhanced-update"
_DOCUMENT = "/openapi.json"
DESCRIPTION = """Homeroom takes every progress event that players send, keeps course progress right,
and does in the background everything that must follow.

Every error is an RFC 9457 problem document. Lists are paged by `limit` and `cursor`. Times are
RFC 3339 in UTC. Send `Authorization: Bearer` with an API key (`hr_...`) or a JWT."""

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "An RFC 9457 problem document.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable; for programs."},
        "instance": {"type": ["string", "null"], "description": "The request's id."},
        "hint": {"type": "string", "description": "How to mend it."},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/ProblemPart"}},
    },
}
_PROBLEM_PART_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["detail", "code"],
    "properties": {
        "pointer": {"type": "string", "description": "JSON pointer into the body."},
        "in": {"type": "string", "enum": ["query", "path", "header", "cookie"]},
        "parameter": {"type": "string"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
    },
}


class Front:
    """Send the hot path straight to the ingest app and everything else to FastAPI."""

    def __init__(self, api: ASGIApp, ingest: ASGIApp) -> None:
        """Take both applications."""
        self._api, self._ingest = api, ingest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http" or scope["path"] != INGEST_PATH:
            await self._api(scope, receive, send)
            return
        scope[ROUTE] = INGEST_PATH
        if scope["method"] != "POST":
            wrong = HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})
            await (await problem_response(wrong))(scope, receive, send)
            return
        scope[QUIET] = True
        await self._ingest(scope, receive, send)


class Api(FastAPI):
    """FastAPI, its document completed by what it cannot know: ingest, problems, how to sign in."""

    ingest_paths: Mapping[str, Any] = {}
    ingest_schemas: Mapping[str, Any] = {}

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        components = document.setdefault("components", {})
        if "securitySchemes" not in components:
            document["paths"].update(self.ingest_paths)
            components.setdefault("schemas", {}).update(
                Problem=_PROBLEM_SCHEMA, ProblemPart=_PROBLEM_PART_SCHEMA, **self.ingest_schemas
            )
            components["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
            }
            document["security"] = [{"bearer": []}, {"session": []}]
        return document


def create_app(
    routers: Sequence[APIRouter],
    *,
    ingest: ASGIApp,
    ingest_paths: Mapping[str, Any] | None = None,
    ingest_schemas: Mapping[str, Any] | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
    observe: Observe | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    cors_origins: Sequence[str] = (),
) -> ASGIApp:
    """Return the whole application.

    ``ingest`` answers ``POST /api/progress/enhanced-update`` without FastAPI; ``ingest_paths`` and
    ``ingest_schemas`` (``paths`` and ``components.schemas`` of OpenAPI) document it. ``observe`` is
    told of every request. Routers bring their own roles with ``Auth.require``.
    """
    api = Api(
        title="Homeroom",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,  # see _document
        docs_url=None,
        redoc_url=None,
        responses={
            "4XX": _problem_answer("The request is refused."),
            "5XX": _problem_answer("The server cannot answer now."),
        },
    )
    api.ingest_paths, api.ingest_schemas = ingest_paths or {}, ingest_schemas or {}
    for kind in (HomeroomError, RequestValidationError, HTTPException, Exception):
        api.add_exception_handler(kind, handle)
    for router in routers:
        api.include_router(router)
    api.add_api_route(_DOCUMENT, _document(api), include_in_schema=False)
    add_docs(api, document=_DOCUMENT)
    app: ASGIApp = BodyLimit(Front(api, ingest), max_body_bytes)
    if cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key", "x-request-id"],
            expose_headers=["etag", "retry-after", "x-request-id"],
        )
    return RequestContext(app, observe)


def _problem_answer(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


def _document(api: Api) -> Callable[[Request], Awaitable[Response]]:
    """Return the route of the OpenAPI document: encoded once, and kept by who has it."""
    encoded = b""

    async def document(request: Request) -> Response:
        nonlocal encoded
        encoded = encoded or msgspec.json.encode(api.openapi())
        return answer(request, encoded)

    return document
