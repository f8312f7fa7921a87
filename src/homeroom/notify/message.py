"""What other rooms hand over to be said to somebody (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one person. It is sent once for ever by its key."""

    key: str
    """Unique over all messages: sending the same key again changes nothing."""
    type: str
    """One of ``kind.KINDS``."""
    user_id: str
    params: Mapping[str, Any] = field(default_factory=dict)
    """What its template needs; JSON."""
    about: Mapping[str, Any] | None = None
    """What tells whether it is still true when it is sent: ``check`` names who knows."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Free for whoever reads it; JSON."""
    expires_at: int | None = None
    """Microseconds UTC; later it is not worth sending. None: always."""
    group: str | None = None
    """Messages of a group that follow one within ten minutes are mailed together."""
