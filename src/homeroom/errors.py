"""Errors that Homeroom raises on purpose; each knows its HTTP status and a stable code.

The docstring of a class is its default message. ``web.problem`` turns any of them into an RFC 9457
problem document; the CLI prints ``message`` and ends with the class's ``exit_code``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class HomeroomError(Exception):
    """Something went wrong in Homeroom."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        retry_after_seconds: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Take what is wrong, how to mend it, when to come back, and extra problem members."""
        self.message = message or (type(self).__doc__ or "").splitlines()[0]
        self.hint = hint
        self.retry_after_seconds = retry_after_seconds
        self.details = dict(details or {})
        super().__init__(self.message)


class BadRequest(HomeroomError):
    """The request cannot be read."""

    status = 400
    code = "bad_request"
    exit_code = 2


class Unauthenticated(HomeroomError):
    """This needs a valid API key or token in the Authorization header."""

    status = 401
    code = "unauthenticated"


class Forbidden(HomeroomError):
    """Your role may not do this."""

    status = 403
    code = "forbidden"


class NotFound(HomeroomError):
    """There is no such record."""

    status = 404
    code = "not_found"
    exit_code = 4


class Conflict(HomeroomError):
    """The record is not in a state that allows this."""

    status = 409
    code = "conflict"
    exit_code = 5


class TooLarge(HomeroomError):
    """The request is larger than the limit."""

    status = 413
    code = "too_large"


class UnsupportedMediaType(HomeroomError):
    """The body must be application/json."""

    status = 415
    code = "unsupported_media_type"


class Invalid(HomeroomError):
    """The request is well formed, but some of its values are not allowed."""

    status = 422
    code = "invalid"
    exit_code = 2


class TooBusy(HomeroomError):
    """The server has more work waiting than it accepts; send it again later."""

    status = 429
    code = "too_busy"


class Unavailable(HomeroomError):
    """The database cannot be reached right now; send it again later."""

    status = 503
    code = "unavailable"
    exit_code = 3


class ConfigurationError(HomeroomError):
    """The configuration is not usable."""

    code = "configuration"
    exit_code = 78
