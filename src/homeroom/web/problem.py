"""Turn any error into an RFC 9457 problem document; internals never get into one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from homeroom.errors import (
    BadRequest,
    Forbidden,
    HomeroomError,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    UnsupportedMediaType,
)
from homeroom.web.request_id import request_id

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 50
"""A body of a thousand faulty items needs no answer of a thousand lines."""


class MethodNotAllowed(HomeroomError):
    """This path does not take this method."""

    status = 405
    code = "method_not_allowed"


_BY_STATUS: Mapping[int, type[HomeroomError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    413: TooLarge,
    415: UnsupportedMediaType,
    422: Invalid,
}


def to_homeroom_error(error: Exception) -> HomeroomError:
    """Map any exception to one that knows its status; an unknown one says nothing of itself."""
    if isinstance(error, HomeroomError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        if isinstance(error.__cause__, HomeroomError):
            return error.__cause__  # FastAPI wraps what the reading of a body raised
        kind = _BY_STATUS.get(error.status_code)
        if kind is NotFound and error.detail == HTTPStatus.NOT_FOUND.phrase:
            return NotFound("There is nothing at this address.")
        if kind is MethodNotAllowed:
            return MethodNotAllowed()
        if kind is not None:
            return kind(str(error.detail))
        if error.status_code < 500:
            return BadRequest(str(error.detail))
    return HomeroomError("Something went wrong here; the log has more under this request id.")


def problem(error: HomeroomError) -> dict[str, Any]:
    """Return the members of an error's problem document."""
    members: dict[str, Any] = {
        "type": f"urn:homeroom:problem:{error.code}",
        "title": (type(error).__doc__ or "").splitlines()[0].rstrip("."),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "instance": request_id.get(),
    }
    if error.hint:
        members["hint"] = error.hint
    for name, value in error.details.items():
        members.setdefault(name, value)
    return members


def problem_headers(error: HomeroomError, foreign: Exception | None = None) -> dict[str, str]:
    """Return ``Retry-After`` and ``WWW-Authenticate`` where they belong, and ``Allow``."""
    headers = dict(getattr(foreign, "headers", None) or {})
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers.setdefault("WWW-Authenticate", 'Bearer realm="homeroom"')
    return headers


async def problem_response(error: Exception) -> Response:
    """Return the answer to any exception; also for ASGI apps that know no FastAPI.

    What nobody expected is written to the log here, and only there.
    """
    known = to_homeroom_error(error)
    if known is not error and known.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request_failed", exc_info=error)
    return Response(
        msgspec.json.encode(problem(known), enc_hook=str),
        known.status,
        headers=problem_headers(known, error),
        media_type=MEDIA_TYPE,
    )


async def handle(request: Request, error: Exception) -> Response:
    """Answer for FastAPI; registered for all exceptions."""
    if isinstance(error, RequestValidationError) and _is_foreign_body(request, error):
        return await problem_response(UnsupportedMediaType())
    return await problem_response(error)


def _is_foreign_body(request: Request, error: RequestValidationError) -> bool:
    """Say whether the body was not read at all because it does not claim to be JSON."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind.endswith(("/json", "+json")):
        return False
    return any(
        tuple(fault["loc"]) == ("body",) and fault["type"] not in {"missing", "json_invalid"}
        for fault in error.errors()
    )


def _invalid(error: RequestValidationError) -> HomeroomError:
    faults: Sequence[Any] = error.errors()
    for fault in faults:
        if fault["type"] == "json_invalid":
            reason = (fault.get("ctx") or {}).get("error", "it ends too early")
            return BadRequest(f"The body is not JSON: {reason}.")
    return Invalid(
        f"{len(faults)} of the values are not allowed." if len(faults) > 1 else None,
        details={"errors": [_fault(fault) for fault in faults[:MAX_ERRORS]]},
    )


def _fault(fault: Mapping[str, Any]) -> dict[str, str]:
    """Say where a value is wrong and why, without repeating the value."""
    source, *path = fault["loc"] or ("body",)
    message = str(fault["msg"]).removeprefix("Value error, ")
    found = {"detail": message[:300], "code": str(fault["type"])}
    if source == "body":
        return {"pointer": "#" + "".join(f"/{_escaped(part)}" for part in path), **found}
    return {"in": str(source), "parameter": ".".join(str(part) for part in path), **found}


def _escaped(part: object) -> str:
    """Escape one step of a JSON pointer (RFC 6901) and keep it short."""
    return str(part)[:100].replace("~", "~0").replace("/", "~1")
