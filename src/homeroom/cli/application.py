"""Open the configured database or application for a command."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Awaitable, Callable, Coroutine
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from homeroom.cli.group import LazyModule
from homeroom.errors import ConfigurationError, HomeroomError, Unavailable

if TYPE_CHECKING:
    import asyncio

    from sqlalchemy import exc as database_errors

    from homeroom.bootstrap import application as bootstrap
    from homeroom.bootstrap import database, database_commands
    from homeroom.bootstrap.application import Application
    from homeroom.bootstrap.database_commands import SchemaState
    from homeroom.db.database import Database
    from homeroom.db.seal import InstallationSealed
    from homeroom.http import logging_config
    from homeroom.settings import Settings
else:
    asyncio = LazyModule("asyncio")
    bootstrap = LazyModule("homeroom.bootstrap.application")
    database = LazyModule("homeroom.bootstrap.database")
    database_commands = LazyModule("homeroom.bootstrap.database_commands")
    database_errors = LazyModule("sqlalchemy.exc")
    logging_config = LazyModule("homeroom.http.logging_config")

ResultT = TypeVar("ResultT")
UPGRADE_COMMAND = "homeroom db upgrade"


def run_with_database(work: Callable[[Database], Awaitable[ResultT]]) -> ResultT:
    """Run a function on the configured database, and return its result.

    This loads the database and the settings, but no feature. Raises ``ConfigurationError`` with the
    command that fixes it for a database that does not exist or has another schema than this
    release's, ``Unavailable`` for one that cannot be read.
    """

    async def run(settings: Settings) -> ResultT:
        async with database.open_database(settings) as db:
            return await work(db)

    return _run(run)


def run_with_application(work: Callable[[Application], Awaitable[ResultT]]) -> ResultT:
    """Run a function on the application; see ``run_with_database``."""

    async def run(settings: Settings) -> ResultT:
        async with bootstrap.open_application(settings) as application:
            return await work(application)

    return _run(run)


def _run(run: Callable[[Settings], Coroutine[Any, Any, ResultT]]) -> ResultT:
    _import_structlog()  # before the settings, which import it too
    settings = database.load_settings()
    _configure_log(settings)
    try:
        return asyncio.run(run(settings))
    except database_errors.SQLAlchemyError as error:
        raise database_unavailable(settings, error) from error


def _configure_log(settings: Settings) -> None:
    """Send the log to standard error: standard output holds the result alone."""
    _import_structlog()
    logging_config.configure_logging("warning", settings.log_format)


def _import_structlog() -> None:
    """Import structlog without rich, which takes a tenth of a short command's time.

    structlog uses it for tracebacks alone, and ``logging_config`` formats those without it.
    """
    if "structlog" not in sys.modules and "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]  # its import raises ImportError
        try:
            import_module("structlog")
        finally:
            del sys.modules["rich"]


def read_schema_state(settings: Settings) -> SchemaState:
    """Compare the database with this release.

    Raises ``Unavailable`` if it cannot be read.
    """
    try:
        return database_commands.compare_schema(settings)
    except (database_errors.SQLAlchemyError, OSError) as error:
        raise database_unavailable(settings, error) from error


def database_unavailable(settings: Settings, error: Exception) -> HomeroomError:
    """Return the error for a database that cannot be read."""
    reason = str(getattr(error, "orig", None) or error)
    hint = "Set HOMEROOM_DATABASE_URL to a database file of Homeroom's, or restore a backup."
    if not settings.is_embedded:
        hint = "Check HOMEROOM_DATABASE_URL and the log of the PostgreSQL server."
    return Unavailable(
        f"The database {settings.database_name} cannot be used: {reason}.", hint=hint
    )


def require_database(settings: Settings) -> SchemaState:
    """Return the state of the schema, if it can be used.

    Raises ``ConfigurationError`` with the command that fixes it, or ``Unavailable`` for a file that
    is no database.
    """
    if not database_exists(settings):
        raise database.missing_database(settings)
    state = read_schema_state(settings)
    fault = schema_fault(state)
    if fault is not None:
        raise ConfigurationError(fault[0], hint=fault[1])
    return state


def require_unsealed(settings: Settings) -> None:
    """Raise ``InstallationSealed`` for a database that must not run (``db.seal``)."""
    sealed = read_seal(settings)
    if sealed is not None:
        raise sealed


def read_seal(settings: Settings) -> InstallationSealed | None:
    """Return the error of a database that must not run, or None."""
    _configure_log(settings)
    return database_commands.read_seal(settings)


def describe_schema(state: SchemaState) -> str:
    """Return the revision of a usable database, for the end of a sentence."""
    if state.is_newer:
        return f"at revision {state.current}, of a later release; this release works with it"
    return f"at revision {state.current}"


def database_exists(settings: Settings) -> bool:
    """Return whether the database file exists; always true for one on a server."""
    location = settings.database_location
    return not isinstance(location, Path) or location.exists()


def schema_fault(state: SchemaState) -> tuple[str, str] | None:
    """Return the fault of a database's schema and its fix, or None."""
    if state.current is None:
        return ("The database has no tables yet.", f"Create them with: {UPGRADE_COMMAND}")
    if state.is_newer:
        return None
    if state.current != state.head:
        return (
            f"The database is at revision {state.current}, this release needs {state.head}.",
            f"Upgrade it with: {UPGRADE_COMMAND}",
        )
    if state.differences:
        return (
            "The tables differ from this release's: " + "; ".join(state.differences[:5]),
            "Another program has changed them. Undo that, or restore a backup.",
        )
    return None


def audit_actor() -> str:
    """Return the actor for the audit trail: the user of this machine."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError, ImportError):  # an id without a name, as in a container
        return "cli"
