"""The levels and domains of learning outcomes (pure)."""

from __future__ import annotations

from enum import StrEnum


class BloomLevel(StrEnum):
    """The six levels (Anderson and Krathwohl, 2001), from the lowest to the highest."""

    REMEMBER = "remember"
    UNDERSTAND = "understand"
    APPLY = "apply"
    ANALYZE = "analyze"
    EVALUATE = "evaluate"
    CREATE = "create"

    @property
    def rank(self) -> int:
        """Return 1 for the lowest level to 6 for the highest."""
        return _RANKS[self]


class OutcomeDomain(StrEnum):
    """The domain of an outcome: knowing, a practical skill, or an attitude."""

    COGNITIVE = "cognitive"
    PSYCHOMOTOR = "psychomotor"
    AFFECTIVE = "affective"


_RANKS = {level: rank for rank, level in enumerate(BloomLevel, start=1)}
