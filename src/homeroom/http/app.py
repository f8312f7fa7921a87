"""The HTTP application: FastAPI and the raw ingest route, with middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from homeroom import __version__
from homeroom.errors import HomeroomError
from homeroom.http.console_page import add_console
from homeroom.http.docs_page import add_docs_page
from homeroom.http.encoded_slashes import EncodedSlashes, restore_slashes
from homeroom.http.head_requests import HeadRequests
from homeroom.http.ingest import INGEST_PATH, REJECTED_HEADER
from homeroom.http.openapi import complete_document, operation_id
from homeroom.tracing import Tracer
from homeroom.web.etag import json_response_with_etag
from homeroom.web.middleware import (
    QUIET_SCOPE_KEY,
    ROUTE_SCOPE_KEY,
    BodyLimitMiddleware,
    ObserveRequest,
    RequestContextMiddleware,
)
from homeroom.web.problem import handle_exception, problem_response
from homeroom.web.query_parameters import refuse_unknown_parameters

_OPENAPI_PATH = "/openapi.json"
API_DESCRIPTION = """Homeroom stores the progress events of players, computes course progress, and
runs what follows in the background: credentials, reports, lesson plans, reminders.

Every error is an RFC 9457 problem document. Lists are paged by `limit` and `cursor`. Times are
RFC 3339 in UTC. Send `Authorization: Bearer` with an API key (`hr_...`) or a JWT."""


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The methods of the routes; HEAD works where GET does."""
CORS_ALLOWED_HEADERS = (
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "last-event-id",
    "x-request-id",
)
"""Request headers that the API answers to: a page of another origin may send no others."""
CORS_EXPOSED_HEADERS = ("etag", REJECTED_HEADER, "link", "location", "retry-after", "x-request-id")


class IngestDispatcher:
    """Dispatch ingest requests to the ingest app, and all others to FastAPI."""

    def __init__(self, api: ASGIApp, ingest: ASGIApp) -> None:
        """Dispatch between both applications."""
        self._api, self._ingest = api, ingest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one request."""
        if scope["type"] != "http" or scope["path"] != INGEST_PATH:
            await self._api(scope, receive, send)
            return
        scope[ROUTE_SCOPE_KEY] = INGEST_PATH
        if scope["method"] != "POST":
            error = HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})
            await (await problem_response(error))(scope, receive, send)
            return
        scope[QUIET_SCOPE_KEY] = True
        await self._ingest(scope, receive, send)


class HomeroomApi(FastAPI):
    """FastAPI with a completed OpenAPI document."""

    ingest_paths: Mapping[str, Any] = {}
    ingest_schemas: Mapping[str, Any] = {}

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self.openapi_schema is None:
            self.openapi_schema = complete_document(
                super().openapi(), self.ingest_paths, self.ingest_schemas
            )
        return self.openapi_schema


def create_app(
    routers: Sequence[APIRouter],
    *,
    ingest: ASGIApp,
    max_body_bytes: int,
    ingest_paths: Mapping[str, Any] | None = None,
    ingest_schemas: Mapping[str, Any] | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
    observe: ObserveRequest | None = None,
    tracer: Tracer | None = None,
    cors_origins: Sequence[str] = (),
) -> ASGIApp:
    """Return the whole application.

    ``ingest`` serves ``POST /api/progress/enhanced-update`` without FastAPI; ``ingest_paths`` and
    ``ingest_schemas`` (``paths`` and ``components.schemas`` of OpenAPI) document it. ``observe`` is
    called after every request, which ``tracer`` records. The routes declare their roles with
    ``Auth.require``.
    """
    api = HomeroomApi(
        title="Homeroom",
        version=__version__,
        description=API_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,  # see _openapi_endpoint
        generate_unique_id_function=operation_id,
        dependencies=[Depends(restore_slashes), Depends(refuse_unknown_parameters)],
        docs_url=None,
        redoc_url=None,
        # Its own spans and logs hold paths and bodies, and so the ids of learners.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    api.ingest_paths, api.ingest_schemas = ingest_paths or {}, ingest_schemas or {}
    for kind in (HomeroomError, RequestValidationError, Exception):
        api.add_exception_handler(kind, handle_exception)
    api.add_exception_handler(HTTPException, _handle_http_exception)
    for router in routers:
        api.include_router(router)
    api.add_api_route(_OPENAPI_PATH, _openapi_endpoint(api), include_in_schema=False)
    add_docs_page(api, document=_OPENAPI_PATH)
    add_console(api)
    app: ASGIApp = BodyLimitMiddleware(
        IngestDispatcher(EncodedSlashes(HeadRequests(api)), ingest), max_body_bytes
    )
    if cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=cors_origins,
            allow_methods=METHODS,
            allow_headers=CORS_ALLOWED_HEADERS,
            expose_headers=CORS_EXPOSED_HEADERS,
        )
    return RequestContextMiddleware(app, observe, tracer)


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    """Return the response to an HTTP exception; a 405 names all methods.

    Starlette names those of the first route of the path only.
    """
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = ", ".join(_allowed_methods(request))
        error = HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": allow})
    return await handle_exception(request, error)


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods that the routes of a request's path serve, HEAD with GET."""
    if isinstance(request.scope.get("endpoint"), StaticFiles):
        return ["GET", "HEAD"]
    path = {name: request.scope[name] for name in ("type", "path", "root_path", "headers")}
    found = [
        method
        for method in METHODS
        if any(
            route.matches({**path, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
    return ["GET", "HEAD", *found[1:]] if found[:1] == ["GET"] else found


def _openapi_endpoint(api: HomeroomApi) -> Callable[[Request], Awaitable[Response]]:
    """Return the route of the OpenAPI document, encoded once and cached by its ETag."""
    encoded = b""

    async def document(request: Request) -> Response:
        nonlocal encoded
        encoded = encoded or msgspec.json.encode(api.openapi())
        return json_response_with_etag(request, encoded)

    return document
