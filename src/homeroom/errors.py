"""The errors that Homeroom raises on purpose, with HTTP status and stable code.

The docstring of a class is its default message. ``web.problem`` turns any of them into an RFC 9457
problem document; the CLI prints ``message`` and ends with the class's ``exit_code``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class HomeroomError(Exception):
    """An internal error occurred."""

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
        """Set the message, the fix, the pause before a retry, and extra problem members."""
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
    """The request needs a valid API key or token in the Authorization header."""

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


class Gone(HomeroomError):
    """The record is no longer available."""

    status = 410
    code = "gone"


class PreconditionFailed(HomeroomError):
    """The record has changed since it was read; read it again."""

    status = 412
    code = "precondition_failed"
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
    """The server has too many requests waiting; send the request again later."""

    status = 429
    code = "too_busy"


class Unavailable(HomeroomError):
    """The database cannot be reached; send the request again later."""

    status = 503
    code = "unavailable"
    exit_code = 3
    usual_retry_seconds: ClassVar[float] = 1


class DatabaseFault(Unavailable):
    """The database has a fault whose cause is known.

    ``db.fault_state`` logs the cause once when it begins and once when it is over, so callers that
    try again log nothing. ``retry_is_useful`` is false where only a person can end the fault.
    """

    code = "database_fault"
    retry_is_useful: ClassVar[bool] = True


class StorageFull(DatabaseFault):
    """The storage of the database is full: nothing can be stored, reading works."""

    code = "storage_full"
    retry_is_useful = False
    usual_retry_seconds = 30


class StorageReadOnly(DatabaseFault):
    """The storage of the database is read-only: nothing can be stored, reading works."""

    code = "storage_read_only"
    retry_is_useful = False
    usual_retry_seconds = 30


class StorageFailing(DatabaseFault):
    """The storage of the database reports errors."""

    code = "storage_failing"


class DatabaseDamaged(DatabaseFault):
    """The database is damaged, or is no database."""

    code = "database_damaged"
    retry_is_useful = False
    usual_retry_seconds = 30


class DatabaseUnreachable(DatabaseFault):
    """The database cannot be reached; send the request again later."""

    code = "database_unreachable"


class DatabaseSlow(DatabaseFault):
    """The database does not answer in time; send the request again later."""

    code = "database_slow"


class TooManyOpenFiles(DatabaseFault):
    """The server has no file descriptor left; send the request again later."""

    code = "too_many_open_files"


class TooManyConnections(DatabaseFault):
    """No connection to the database is free; send the request again later."""

    code = "too_many_connections"


class OutOfMemory(DatabaseFault):
    """The database has no memory left; send the request again later."""

    code = "out_of_memory"


class ConfigurationError(HomeroomError):
    """The configuration is not usable."""

    code = "configuration"
    exit_code = 78
