"""How the kernel leaves audit lines, which belong to a room above it."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from homeroom.db.tx import Tx


class Record(Protocol):
    """Writes an audit line in a transaction; ``access`` lies above this room and lends its own."""

    def __call__(
        self,
        tx: Tx,
        actor: str,
        action: str,
        subject: str,
        details: Mapping[str, Any] | None = None,
    ) -> Awaitable[None]:
        """Take who did what to what."""
