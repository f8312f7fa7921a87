"""asyncpg, which is there if Homeroom was installed with the extra ``postgres``."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from homeroom.errors import ConfigurationError


class _Driver:
    """Load the driver when it is first asked for: a server on SQLite has no use for its 10 MB."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module("asyncpg"), name)


asyncpg: Any = _Driver()


def need_driver() -> None:
    """Raise ``ConfigurationError``, with what to install, where asyncpg is missing."""
    if find_spec("asyncpg") is None:
        raise ConfigurationError(
            "HOMEROOM_DATABASE_URL names PostgreSQL, and its driver asyncpg is not installed.",
            hint="Install it with: pip install 'homeroom[postgres]'",
        )
