"""The driver asyncpg: lazy import, connections, translation of errors.

asyncpg is installed by the extra ``postgres``.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from homeroom.errors import (
    ConfigurationError,
    DatabaseDamaged,
    DatabaseUnreachable,
    HomeroomError,
    OutOfMemory,
    StorageFailing,
    StorageFull,
    StorageReadOnly,
    TooManyConnections,
    TooManyOpenFiles,
    Unavailable,
)
from homeroom.machine import descriptors_are_exhausted

CONNECT_TIMEOUT_SECONDS = 5.0
WAIT_TIMEOUT_SECONDS = 10.0
"""Longest wait for a connection, or for a lock of another transaction, before ``Unavailable``."""
STATEMENT_TIMEOUT_SECONDS = 20
SESSION_SETTINGS = {
    "application_name": "homeroom",
    "timezone": "UTC",
    "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
    "lock_timeout": f"{WAIT_TIMEOUT_SECONDS:g}s",
    "idle_in_transaction_session_timeout": "60s",
}

_CLIENT_OPTIONS = frozenset(
    {
        "application_name",
        "client_encoding",
        "connect_timeout",
        "fallback_application_name",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "tcp_user_timeout",
    }
)
"""Options of libpq that ask nothing of the server. The driver would send unknown ones to the server
as settings; Homeroom sets these itself, or does not need them."""
_DROPPABLE_VALUES = {"channel_binding": ("disable", "prefer"), "gssencmode": ("disable", "prefer")}
"""Options that the driver does not support, with the values that do not require them."""

_UNAVAILABLE_CLASSES = frozenset({"08", "28", "3D", "53", "57", "58", "F0", "XX"})
"""Connection lost, refused, no such database, no resources, operator intervention, system error.

SQLSTATE classes, https://www.postgresql.org/docs/current/errcodes-appendix.html
"""
_UNAVAILABLE_STATES = frozenset({"25006", "25P03", "25P04", "55P03"})
"""A standby that cannot write, a transaction that was ended for its length, a lock time-out."""
_FAULTS: dict[str, type[Unavailable]] = {
    "08": DatabaseUnreachable,
    "25006": StorageReadOnly,
    "53100": StorageFull,
    "53200": OutOfMemory,
    "53300": TooManyConnections,
    "53400": TooManyConnections,
    "57014": Unavailable,  # a statement time-out, or an interrupt
    "57P": DatabaseUnreachable,  # shutdown, crash, start
    "58": StorageFailing,
    "58000": Unavailable,
    "XX001": DatabaseDamaged,
    "XX002": DatabaseDamaged,
}
"""Causes by SQLSTATE or its beginning; the longest one counts."""
_HINTS: dict[type[Unavailable], str] = {
    DatabaseUnreachable: "Check that the server runs, and HOMEROOM_DATABASE_URL.",
    StorageFull: "Free some space on the disk of the PostgreSQL server.",
    StorageReadOnly: "Connect to the primary server; this one is a standby, or read-only.",
    StorageFailing: "Check the disk of the PostgreSQL server, and its log.",
    DatabaseDamaged: "Stop all processes and restore a backup: homeroom db restore FILE --force.",
    OutOfMemory: "Give the PostgreSQL server more memory.",
    TooManyConnections: "Raise max_connections of the server, or lower"
    " HOMEROOM_DATABASE_CONNECTIONS or the number of processes.",
    TooManyOpenFiles: "Raise the limit of open files (ulimit -n, LimitNOFILE=), and start again.",
}
_LOGIN_HINT = (
    "Check the user and the password in HOMEROOM_DATABASE_URL, and the server's pg_hba.conf."
)
_HINTS_BY_CLASS = {
    "28": _LOGIN_HINT,
    "3D": "Create it, owned by Homeroom's user, or correct its name in HOMEROOM_DATABASE_URL.",
}
"""Fixes by the class of SQLSTATE, where the type of the fault has none."""
_HOST_HINT = (
    "Check the host in HOMEROOM_DATABASE_URL. An @, : or / of the password is written as %40, %3A"
    " or %2F."
)
_CONFLICT_STATES = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: PostgreSQL rolled this transaction back for another one."""
_PERMISSION_DENIED = "42501"
_STARTING_CLASSES = frozenset({"08", "57"})
"""Connection refused or lost, and 57P03: the server starts, recovers or shuts down."""


class TransactionConflict(Unavailable):
    """The transaction was rolled back because of another one. Send the request again."""


class _LazyDriver:
    """Import the driver on first use: a server on SQLite does not need its 10 MB."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module("asyncpg"), name)


asyncpg: Any = _LazyDriver()


def require_driver() -> None:
    """Raise ``ConfigurationError`` if a package of the extra ``postgres`` is missing.

    SQLAlchemy raises ImportError without greenlet as soon as its asyncio half is imported, so call
    this before ``homeroom.db.postgres.ddl`` is imported.
    """
    missing = [name for name in ("asyncpg", "greenlet") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            "HOMEROOM_DATABASE_URL is a PostgreSQL URL, but packages for it are not installed:"
            f" {', '.join(missing)}.",
            hint="Install them with: pip install 'homeroom[postgres]'",
        )


async def connect_postgres(url: str, **session: str) -> Any:
    """Open a connection outside of the pools.

    ``url`` is a libpq URL, with its TLS options; ``session`` are settings of the server for this
    connection. Raises ``Unavailable`` or ``ConfigurationError``.
    """
    require_driver()
    with translate_url_errors(), translate_postgres_errors():
        return await asyncpg.connect(
            driver_url(url),
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={**SESSION_SETTINGS, **session},
        )


def may_be_starting(error: Unavailable) -> bool:
    """Return whether a server that refused a connection may accept one soon.

    A wrong password and a missing database need the operator instead.
    """
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or ""
    return isinstance(cause, OSError | TimeoutError) or state[:2] in _STARTING_CLASSES


def driver_url(url: str) -> str:
    """Return a libpq URL without the options that the driver neither knows nor needs."""
    head, _, query = url.partition("?")
    options = [
        option
        for option in query.split("&")
        if (name := option.partition("=")[0]) not in _CLIENT_OPTIONS
        and option.partition("=")[2] not in _DROPPABLE_VALUES.get(name, ())
    ]
    return f"{head}?{'&'.join(options)}" if any(options) else head


@contextmanager
def translate_url_errors() -> Iterator[None]:
    """Raise ``ConfigurationError`` for an invalid URL, without its contents."""
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(
            "HOMEROOM_DATABASE_URL is not a valid URL of a PostgreSQL database.",
            hint="Write postgresql://user:password@host:5432/database, special characters of the"
            " password percent-encoded, and TLS options as for libpq: ?sslmode=verify-full.",
        ) from error
    except asyncpg.UndefinedObjectError as error:
        raise ConfigurationError(
            f"The server does not know an option of HOMEROOM_DATABASE_URL: {error}.",
            hint="Remove the option. For TLS use sslmode, best verify-full with sslrootcert.",
        ) from error


@contextmanager
def translate_postgres_errors(connection: Any = None) -> Iterator[None]:
    """Raise ``Unavailable`` for the errors of a database that is away or busy.

    A transaction that may succeed on a retry raises its subclass ``TransactionConflict``.
    ``connection`` is the one that is used: after an error of the driver itself the state of its
    protocol is unknown, so it is terminated and no pool takes it back. Whatever error a lost
    connection raises counts as ``Unavailable``: the parser of the driver and the closed transport
    raise errors of no common class.
    """
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _translate_error(error) from error
    except asyncpg.InternalClientError as error:
        if connection is not None and not isinstance(error, _outdated_schema_errors()):
            _terminate(connection)
        raise _translate_error(error) from error
    except TimeoutError as error:
        raise _unavailable(error) from error
    except OSError as error:
        exhausted = descriptors_are_exhausted()
        fault = TooManyOpenFiles if exhausted else DatabaseUnreachable
        raise _unavailable(error, fault) from error
    except HomeroomError:
        raise
    except Exception as error:
        if connection is not None and is_lost(connection):
            raise _unavailable(error, DatabaseUnreachable) from error
        raise


def is_lost(connection: Any) -> bool:
    """Return whether a connection is closed, or was taken from its user by the pool."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


def _terminate(connection: Any) -> None:
    with suppress(asyncpg.InterfaceError):  # it was lost and removed from the pool
        connection.terminate()


def _outdated_schema_errors() -> tuple[type[Exception], ...]:
    """Return the errors after which the connection is intact and usable."""
    return (asyncpg.InvalidCachedStatementError, asyncpg.exceptions.OutdatedSchemaCacheError)


def _translate_error(error: Exception) -> Exception:
    state = getattr(error, "sqlstate", None) or ""
    if state in _CONFLICT_STATES:
        return TransactionConflict(retry_after_seconds=1)
    if isinstance(error, _outdated_schema_errors()):
        return TransactionConflict(
            "The schema was changed during the transaction. Send the request again.",
            retry_after_seconds=1,
        )
    if state == _PERMISSION_DENIED:
        return ConfigurationError(
            f"PostgreSQL refuses this to Homeroom's user: {_first_line(error)}.",
            hint="Make that user the owner: ALTER DATABASE ... OWNER TO ...",
        )
    if state[:2] in _UNAVAILABLE_CLASSES or state in _UNAVAILABLE_STATES:
        lengths = range(len(state), 1, -1)
        faults = (_FAULTS[state[:size]] for size in lengths if state[:size] in _FAULTS)
        return _unavailable(error, next(faults, Unavailable))
    # A closed connection; wrong values are an InterfaceError and a ValueError.
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
        return _unavailable(error, DatabaseUnreachable)
    # Broken or unexpected messages, as from a server that dies between two statements.
    if isinstance(error, asyncpg.InternalClientError):
        return _unavailable(error, DatabaseUnreachable)
    return error


def _unavailable(error: Exception, fault: type[Unavailable] = Unavailable) -> Unavailable:
    state = getattr(error, "sqlstate", None) or ""
    hint = _HINTS.get(fault) or _HINTS_BY_CLASS.get(state[:2])
    return fault(
        f"The PostgreSQL database is not available: {_first_line(error)}.",
        hint=_HOST_HINT if isinstance(error, socket.gaierror) else hint,
        retry_after_seconds=fault.usual_retry_seconds,
    )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
