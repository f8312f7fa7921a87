"""Priorities of what waits for a commit (pure)."""

from __future__ import annotations

from enum import IntEnum


class CommitPriority(IntEnum):
    """Order of items while more waits than one commit takes; 0 is the highest."""

    HIGH = 0
    NORMAL = 1
    LOW = 2
