"""asyncpg, which is there if Homeroom was installed with the extra ``postgres``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from homeroom.errors import ConfigurationError

try:
    asyncpg: Any = import_module("asyncpg")
except ImportError:
    asyncpg = None


def need_driver() -> None:
    """Raise ``ConfigurationError``, with what to install, where asyncpg is missing."""
    if asyncpg is None:
        raise ConfigurationError(
            "HOMEROOM_DATABASE_URL names PostgreSQL, and its driver asyncpg is not installed.",
            hint="Install it with: pip install 'homeroom[postgres]'",
        )
