"""What PostgreSQL's errors mean: away, in each other's way, or a fault of the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from homeroom.db.postgres_driver import asyncpg
from homeroom.errors import ConfigurationError, Unavailable

_AWAY_CLASSES = frozenset({"08", "28", "3D", "53", "57", "58", "F0", "XX"})
"""Connection lost, refused, no such database, no resources, stopped by somebody, system error.

SQLSTATE classes, https://www.postgresql.org/docs/current/errcodes-appendix.html
"""
_AWAY = frozenset({"25006", "25P03", "25P04", "55P03"})
"""A standby that cannot write, a transaction that was ended for its length, a lock time-out."""
_COLLIDED = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: PostgreSQL has undone this one so that another may go on."""

_FORBIDDEN = "42501"


class Collided(Unavailable):
    """Another transaction was in the way, so this one was undone; send it again."""


@contextmanager
def mapped() -> Iterator[None]:
    """Turn the errors of a database that is away, or busy with somebody else, into ``Unavailable``.

    A transaction that may succeed if it is only done again fails with ``Collided``.
    """
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise _meant(error) from error
    except (OSError, TimeoutError) as error:
        raise _away(error) from error


def _meant(error: Exception) -> Exception:
    state = getattr(error, "sqlstate", None) or ""
    if state in _COLLIDED:
        return Collided(retry_after_seconds=1)
    if isinstance(
        error, asyncpg.InvalidCachedStatementError | asyncpg.exceptions.OutdatedSchemaCacheError
    ):
        return Collided("The schema was changed meanwhile; send it again.", retry_after_seconds=1)
    if state == _FORBIDDEN:
        return ConfigurationError(
            f"PostgreSQL does not let Homeroom's user do this: {_reason(error)}.",
            hint="Let that user own the database: ALTER DATABASE ... OWNER TO ...",
        )
    if state[:2] in _AWAY_CLASSES or state in _AWAY:
        return _away(error)
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
        return _away(error)  # a connection that is closed; wrong values are a ValueError as well
    if isinstance(error, asyncpg.exceptions.TargetServerAttributeNotMatched):
        return _away(error)
    return error


def _away(error: Exception) -> Unavailable:
    return Unavailable(
        f"The database cannot do this right now: {_reason(error)}.", retry_after_seconds=1
    )


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
