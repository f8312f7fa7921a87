"""RFC 9457 problem documents, and the request id that they and the log show."""

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
from homeroom.redaction import hide_secrets, hide_secrets_in_json
from homeroom.validation_message import validation_message
from homeroom.web.request_id import current_request_id

log = structlog.get_logger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"
MAX_PROBLEM_ERRORS = 50
"""Limit of ``errors`` in one problem document, for a body with a thousand faulty items."""


class MethodNotAllowed(HomeroomError):
    """This path does not support this method."""

    status = 405
    code = "method_not_allowed"


_ERRORS_BY_STATUS: Mapping[int, type[HomeroomError]] = {
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
    """Map an exception to a ``HomeroomError``; an unknown one shows no details."""
    if isinstance(error, HomeroomError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid_request(error)
    if isinstance(error, HTTPException):
        if isinstance(error.__cause__, HomeroomError):
            return error.__cause__  # FastAPI wraps errors of reading a body
        kind = _ERRORS_BY_STATUS.get(error.status_code)
        if kind is NotFound and error.detail == HTTPStatus.NOT_FOUND.phrase:
            return NotFound("There is no resource at this path.")
        if kind is MethodNotAllowed:
            allow = (error.headers or {}).get("Allow", "")
            return MethodNotAllowed(f"This path serves {allow} only." if allow else None)
        if kind is not None:
            return kind(str(error.detail))
        if error.status_code < 500:
            return BadRequest(str(error.detail))
    return HomeroomError(
        "An internal error occurred; the log has its traceback under this request id."
    )


def problem_document(error: HomeroomError) -> dict[str, Any]:
    """Return the members of an error's problem document."""
    members: dict[str, Any] = {
        "type": f"urn:homeroom:problem:{error.code}",
        "title": (type(error).__doc__ or "").splitlines()[0].rstrip("."),
        "status": error.status,
        "detail": hide_secrets(error.message),
        "code": error.code,
        "instance": current_request_id.get(),
    }
    if error.hint:
        members["hint"] = hide_secrets(error.hint)
    for name, value in hide_secrets_in_json(error.details).items():
        members.setdefault(name, value)
    return members


def problem_headers(error: HomeroomError, foreign: Exception | None = None) -> dict[str, str]:
    """Return ``Retry-After``, ``WWW-Authenticate`` and ``Allow`` where they apply."""
    headers = dict(getattr(foreign, "headers", None) or {})
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers.setdefault("WWW-Authenticate", 'Bearer realm="homeroom"')
    return headers


async def problem_response(error: Exception) -> Response:
    """Return the response to an exception, also for apps without FastAPI.

    An unexpected exception is logged here, and only here.
    """
    known = to_homeroom_error(error)
    if known is not error and known.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request_failed", exc_info=error)
    return Response(
        msgspec.json.encode(problem_document(known), enc_hook=str),
        known.status,
        headers=problem_headers(known, error),
        media_type=PROBLEM_MEDIA_TYPE,
    )


async def handle_exception(request: Request, error: Exception) -> Response:
    """Return the response to an exception in FastAPI."""
    if isinstance(error, RequestValidationError) and _is_unsupported_body(request, error):
        return await problem_response(UnsupportedMediaType())
    return await problem_response(error)


def _is_unsupported_body(request: Request, error: RequestValidationError) -> bool:
    """Return whether the body was not read because its media type is not JSON."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind.endswith(("/json", "+json")):
        return False
    return any(
        tuple(fault["loc"]) == ("body",) and fault["type"] not in {"missing", "json_invalid"}
        for fault in error.errors()
    )


def _invalid_request(error: RequestValidationError) -> HomeroomError:
    faults: Sequence[Any] = error.errors()
    for fault in faults:
        if fault["type"] == "json_invalid":
            reason = (fault.get("ctx") or {}).get("error", "it ends too early")
            return BadRequest(f"The body is not JSON: {reason}.")
    errors = [_problem_part(fault) for fault in faults[:MAX_PROBLEM_ERRORS]]
    first = f"{errors[0].get('parameter') or errors[0]['pointer']}: {errors[0]['detail']}."
    return Invalid(
        f"{len(faults)} of the values are not allowed; the first: {first}"
        if len(faults) > 1
        else f"A value is not allowed: {first}",
        details={"errors": errors},
    )


def _problem_part(fault: Mapping[str, Any]) -> dict[str, str]:
    """Return place and reason of one invalid value, without the value itself."""
    source, *path = fault["loc"] or ("body",)
    part = {"detail": validation_message(fault)[:300], "code": str(fault["type"])}
    if source == "body":
        return {"pointer": "#" + "".join(f"/{_escape_pointer(step)}" for step in path), **part}
    return {"in": str(source), "parameter": ".".join(str(step) for step in path), **part}


def _escape_pointer(step: object) -> str:
    """Escape one step of a JSON pointer (RFC 6901), at most 100 characters of it."""
    return str(step)[:100].replace("~", "~0").replace("/", "~1")
